import { findTenant } from '../../control/tenants.ts';
import { endSessions } from '../shut-out.ts';
import type { Step } from '../step.ts';
import { endWith } from './end-with.ts';

/** Ends the sessions of a tenant whose logins are closed; the operation ends when none is left. */
export const endTenantSessions: Step = {
  name: 'end_sessions',

  async run(context) {
    const { cluster, database, signal, tenant } = context;
    await cluster.admin((client) => endSessions(client, database), signal);
    // The change of status has its audit row already.
    await endWith(context, { outcome: 'SUCCEEDED', audit: null }, async (trx) => {
      const changed = await findTenant(trx, null, { id: tenant.id });
      if (changed === null) throw new Error(`tenant ${tenant.id} is gone`);
      return changed;
    });
  },
};
