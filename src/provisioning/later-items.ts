import type { Knex } from 'knex';
import { appendAudit, type AuditRecord } from '../control/audit.ts';
import { cancelScheduled, tellCancelled } from '../control/scheduled.ts';
import type { OperationQueue } from '../jobs/operation-queue.ts';

/**
 * Cancels the items of a batch whose time has not come, since another one failed. Of these nothing was made:
 * they end at once.
 *
 * @returns ids of the operations and batches that have news: see `appendEvents`
 */
export async function cancelLaterItems(
  trx: Knex.Transaction,
  queue: OperationQueue,
  batchId: string,
  message: string,
): Promise<string[]> {
  const reason = { code: 'PROVISIONING_FAILED', message, rolledBack: true } as const;
  const cancelled = await cancelScheduled(trx, { batchId }, reason);
  const ids = cancelled.map(({ id }) => id);
  await queue.complete(trx, ids);
  await appendAudit(
    trx,
    ...cancelled.map(({ actor, partner, requestId, tenantId }): AuditRecord => ({
      actor,
      partner,
      requestId,
      tenantId,
      ipAddress: null,
      action: 'releaseTenant',
      fromStatus: 'SCHEDULED',
      toStatus: 'FAILED',
      outcome: 'COMPENSATED',
    })),
  );
  return tellCancelled(trx, cancelled);
}
