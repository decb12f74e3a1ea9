import { appendAudit } from '../../control/audit.ts';
import { lockHeld } from '../../control/operations.ts';
import { lockTenant, markTenantDeleted } from '../../control/tenants.ts';
import type { Step } from '../step.ts';

/**
 * One control-plane transaction: the tenant is deleted from here on, whatever its sessions do. Done
 * already is fine: no other operation can have done it meanwhile.
 */
export const markDeleted: Step = {
  name: 'mark_deleted',

  async run({ hold, operation, services, tenant: { id } }) {
    await services.control.transaction(async (trx) => {
      await lockHeld(trx, hold);
      const tenant = await lockTenant(trx, null, id);
      if (tenant === null) throw new Error(`tenant ${id} is gone`);
      if (tenant.status === 'DELETED') return;
      await markTenantDeleted(trx, id, services.settings.deletionRetentionDays);
      await appendAudit(trx, {
        actor: operation.actor,
        partner: operation.partner,
        ipAddress: null,
        action: 'markTenantDeleted',
        tenantId: id,
        fromStatus: tenant.status,
        toStatus: 'DELETED',
        outcome: 'SUCCEEDED',
        requestId: operation.requestId,
      });
    });
  },
};
