import type { Knex } from 'knex';
import { controlSchema, fromRow, type Control } from './database.ts';
import { lockEventWriters } from './events.ts';
import { operationColumns, operationTable, type Operation } from './operations.ts';
import type { IsolationKind } from './tenants.ts';

/** An operation that has ended, and whose events do not say so. */
export interface UntoldOperation {
  readonly operation: Operation;
  readonly isolation: IsolationKind;
}

export interface UntoldLook {
  readonly ids: readonly string[];
  /** Where the next look begins: what ends later is not seen by this one. */
  readonly lookedUntil: Date;
}

const isUntold = `
  operation.finished_at IS NOT NULL AND NOT EXISTS (
    SELECT FROM ${controlSchema}.operation_events told
    WHERE told.operation_id = operation.id
      AND told.operation_status IN ('SUCCEEDED', 'COMPENSATED', 'FAILED', 'CANCELLED'))`;

/**
 * Operations that ended `settledSeconds` ago or more, after `since`, without a last event: the instance
 * that knew their story died before it wrote it.
 *
 * @param since null: as far back as somebody may still want to know
 */
export async function findUntoldOperations(
  control: Control,
  since: Date | null,
  settledSeconds: number,
): Promise<UntoldLook> {
  const { rows } = await control
    .raw<{ rows: UntoldLook[] }>(
      // An end counts from the begin of its transaction, which may take a while.
      `SELECT now() - (:settled + 120) * interval '1 second' AS "lookedUntil",
         ARRAY(SELECT operation.id FROM ${controlSchema}.operations operation
           WHERE operation.finished_at > coalesce(:since, now() - interval '7 days')
             AND operation.finished_at < now() - :settled * interval '1 second'
             AND ${isUntold}) AS ids`,
      { since, settled: settledSeconds },
    )
    .options({ name: 'find_untold_operations' });
  return rows[0] ?? { ids: [], lookedUntil: new Date(0) };
}

/**
 * Those of these operations that are still untold, held at a new fence: nobody else writes the same
 * story, until the transaction ends or later.
 */
export async function holdUntoldOperations(
  trx: Knex.Transaction,
  ids: readonly string[],
): Promise<UntoldOperation[]> {
  // In the order in which a takeover locks: first the row, then the writers of events.
  await operationTable(trx).whereIn('id', ids).orderBy('id').forNoKeyUpdate().select('id');
  await lockEventWriters(trx);
  const { rows } = await trx.raw<{ rows: Record<string, unknown>[] }>(
    `UPDATE ${controlSchema}.operations operation SET fence = operation.fence + 1
     FROM ${controlSchema}.tenants tenant
     WHERE tenant.id = operation.tenant_id AND operation.id = ANY (?) AND ${isUntold}
     RETURNING operation.*, tenant.isolation`,
    [[...ids]],
  );
  return rows.map((row) => ({
    operation: fromRow<Operation>(operationColumns, row),
    isolation: row['isolation'] as IsolationKind,
  }));
}

/**
 * Ids of operations that were accepted `seconds` ago or more and have not ended. Those whose time has not
 * come are left out: whoever begins one gives it a job.
 */
export async function listOpenOperations(control: Control, seconds: number): Promise<string[]> {
  const rows = (await operationTable(control)
    .whereNull('finished_at')
    .whereNot('status', 'SCHEDULED')
    .whereRaw("created_at < now() - ? * interval '1 second'", [seconds])
    .select('id')) as { id: string }[];
  return rows.map(({ id }) => id);
}

/** Those of these operations that have not ended, which stays so until the transaction ends. */
export async function lockOpenOperations(
  trx: Knex.Transaction,
  ids: readonly string[],
): Promise<string[]> {
  const rows = (await operationTable(trx)
    .whereIn('id', ids)
    .whereNull('finished_at')
    .orderBy('id')
    .forNoKeyUpdate() // writers of events do not wait for it
    .select('id')) as { id: string }[];
  return rows.map(({ id }) => id);
}
