import { markTenantDeleted } from '../../control/tenants.ts';
import type { Step } from '../step.ts';
import { endWith } from './end-with.ts';

/** One control-plane transaction: the tenant is deleted, and its operation has ended. */
export const markDeleted: Step = {
  name: 'mark_deleted',

  async run(context) {
    const { services, tenant } = context;
    const end = {
      action: 'markTenantDeleted',
      fromStatus: tenant.status,
      toStatus: 'DELETED',
      outcome: 'SUCCEEDED',
    } as const;
    await endWith(context, end, (trx) =>
      markTenantDeleted(trx, tenant.id, services.settings.deletionRetentionDays),
    );
  },
};
