import { deleteApiKeys } from '../../control/api-keys.ts';
import { appendAudit } from '../../control/audit.ts';
import { releaseIdempotencyKeys } from '../../control/idempotency.ts';
import { endOperation } from '../../control/operations.ts';
import { releaseTenantDatabase } from '../../control/tenant-databases.ts';
import { releaseTenant } from '../../control/tenants.ts';
import type { Step } from '../step.ts';

/**
 * Done by the transaction that accepted the operation (`reserve.ts`). Its undo, last of all, frees
 * the names and ends the operation: everything made under these names is known to be gone by then.
 */
export const reserve: Step = {
  name: 'reserve',

  async compensate({ hold, operation, services, tenant }) {
    await services.control.transaction(async (trx) => {
      await endOperation(trx, hold, 'COMPENSATED');
      await releaseTenantDatabase(trx, tenant.id);
      await releaseTenant(trx, tenant.id);
      await deleteApiKeys(trx, tenant.id);
      await releaseIdempotencyKeys(trx, operation.id);
      await services.queue.complete(trx, operation.id);
      await appendAudit(trx, {
        actor: operation.actor,
        partner: operation.partner,
        ipAddress: null,
        action: 'releaseTenant',
        tenantId: tenant.id,
        fromStatus: 'PROVISIONING',
        toStatus: 'FAILED',
        outcome: 'COMPENSATED',
        requestId: operation.requestId,
      });
    });
  },
};
