import type { Knex } from 'knex';
import { controlSchema, fromRow, sentTogether } from './database.ts';
import { operationColumns, type Operation } from './operations.ts';

export interface ItemRoom {
  /** Of each batch no more at once than so many, over all instances. */
  readonly concurrency: number;
  /** How many at most. */
  readonly limit: number;
  /** From now to each one's deadline. */
  readonly timeoutSeconds: number;
  /** Whether to begin none, rather than wait, while another transaction begins some. */
  readonly unlessLocked?: boolean;
}

/**
 * QUEUED → RUNNING, for as many items as may begin; batches take turns. Whoever begins them holds them
 * at fence 1.
 */
export async function beginItems(trx: Knex.Transaction, room: ItemRoom): Promise<Operation[]> {
  const [lockName, lock] = room.unlessLocked === true ? tryLock : waitForLock;
  const [, { rows }] = await sentTogether([
    // Counted under a lock: what another instance has just begun is seen by the next statement.
    trx.raw(lock).options({ name: lockName }),
    trx
      .raw<{
        rows: Record<string, unknown>[];
      }>(beginStatement, [room.timeoutSeconds, room.concurrency, room.limit])
      .options({ name: 'begin_batch_items' }),
  ]);
  return rows
    .map((row) => fromRow<Operation>(operationColumns, row))
    .sort((a, b) => (a.batchIndex ?? 0) - (b.batchIndex ?? 0));
}

// Whether it has the lock is left where the next statement finds it without being told.
const waitForLock = [
  'lock_batch_items',
  "SELECT set_config('tenantry.items_locked', 'true', true) FROM pg_advisory_xact_lock(7311, 2)",
] as const;
const tryLock = [
  'try_lock_batch_items',
  "SELECT set_config('tenantry.items_locked', pg_try_advisory_xact_lock(7311, 2)::text, true)",
] as const;

const beginStatement = `
  UPDATE ${controlSchema}.operations begun
  SET status = 'RUNNING', started_at = now(), deadline_at = now() + ? * interval '1 second'
  FROM (
    SELECT waiting.id FROM (
      SELECT item.id, batch.created_at,
        row_number() OVER (PARTITION BY batch.id ORDER BY item.batch_index) + (
          SELECT count(*) FROM ${controlSchema}.operations busy
          WHERE busy.batch_id = batch.id AND busy.status = 'RUNNING') AS place
      FROM ${controlSchema}.batches batch
      JOIN ${controlSchema}.operations item ON item.batch_id = batch.id AND item.status = 'QUEUED'
      WHERE batch.status = 'RUNNING' AND batch.deadline_at > now()
        AND NOT (batch.atomic AND EXISTS (
          SELECT FROM ${controlSchema}.operations failed
          WHERE failed.batch_id = batch.id
            AND failed.status IN ('COMPENSATING', 'COMPENSATED', 'FAILED', 'CANCELLED')))
    ) waiting
    WHERE current_setting('tenantry.items_locked')::boolean AND waiting.place <= ?
    ORDER BY waiting.place, waiting.created_at LIMIT ?
  ) chosen
  WHERE begun.id = chosen.id AND begun.status = 'QUEUED'
  RETURNING begun.*`;
