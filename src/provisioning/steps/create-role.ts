import type { Step } from '../step.ts';
import { dropTenantRoles, makeTenantRoles } from '../tenant-roles.ts';

/** An owner role that cannot log in, and a login role under it, for this tenant alone. */
export const createRole: Step = {
  name: 'create_role',

  async run(context) {
    if (context.findings.prepared === true) return; // the standby's are the tenant's now
    await makeTenantRoles(context);
  },

  compensate: dropTenantRoles,
};
