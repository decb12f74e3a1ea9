import { appendAudit } from '../../control/audit.ts';
import { releaseIdempotencyKeys } from '../../control/idempotency.ts';
import { endOperation } from '../../control/operations.ts';
import type { Step } from '../step.ts';

/**
 * Done by the transaction that accepted a change of a tenant that exists (`lifecycle.ts`). Its undo,
 * last of all, ends the operation; the tenant is as it was.
 */
export const acceptance: Step = {
  name: 'reserve',

  async compensate({ hold, operation, services, tenant }) {
    await services.control.transaction(async (trx) => {
      await endOperation(trx, hold, 'COMPENSATED');
      await releaseIdempotencyKeys(trx, operation.id);
      await services.queue.complete(trx, operation.id);
      await appendAudit(trx, {
        actor: operation.actor,
        partner: operation.partner,
        ipAddress: null,
        action: `undo ${operation.kind}`,
        tenantId: tenant.id,
        fromStatus: tenant.status,
        toStatus: tenant.status,
        outcome: 'COMPENSATED',
        requestId: operation.requestId,
      });
    });
  },
};
