import { appendAudit } from '../../control/audit.ts';
import { endOperation } from '../../control/operations.ts';
import { markTenantDeleted } from '../../control/tenants.ts';
import type { Step } from '../step.ts';

/** One control-plane transaction: the tenant is deleted, and its operation has ended. */
export const markDeleted: Step = {
  name: 'mark_deleted',

  async run({ hold, operation, services, tenant }) {
    await services.control.transaction(async (trx) => {
      await endOperation(trx, hold, 'SUCCEEDED');
      const { deletionRetentionDays } = services.settings;
      if (!(await markTenantDeleted(trx, tenant.id, deletionRetentionDays))) {
        throw new Error('the tenant is neither active nor suspended');
      }
      await services.queue.complete(trx, operation.id);
      await appendAudit(trx, {
        actor: operation.actor,
        partner: operation.partner,
        ipAddress: null,
        action: 'markTenantDeleted',
        tenantId: tenant.id,
        fromStatus: tenant.status,
        toStatus: 'DELETED',
        outcome: 'SUCCEEDED',
        requestId: operation.requestId,
      });
    });
  },
};
