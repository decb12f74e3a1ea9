import type { Knex } from 'knex';
import { appendAudit, type AuditRecord } from '../../control/audit.ts';
import { endOperation } from '../../control/operations.ts';
import type { StepContext } from '../step.ts';

/**
 * Ends an operation in ONE control-plane transaction with what its end changes: the fence first, so
 * that an operation that was taken over changes nothing; its job and its audit row last.
 */
export async function endWith(
  { hold, operation, services, tenant }: StepContext,
  end: Pick<AuditRecord, 'action' | 'fromStatus' | 'toStatus'> & {
    readonly outcome: 'SUCCEEDED' | 'COMPENSATED';
  },
  change: (trx: Knex.Transaction) => Promise<void>,
): Promise<void> {
  await services.control.transaction(async (trx) => {
    await endOperation(trx, hold, end.outcome);
    await change(trx);
    await services.queue.complete(trx, operation.id);
    await appendAudit(trx, {
      ...end,
      actor: operation.actor,
      partner: operation.partner,
      ipAddress: null,
      tenantId: tenant.id,
      requestId: operation.requestId,
    });
  });
}
