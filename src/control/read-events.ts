import { controlSchema, type Control } from './database.ts';
import type { StepStatus } from './events.ts';
import type { OperationStatus } from './operations.ts';

/** One event as it stands in the log. */
export interface ProgressEvent {
  /** One counter over the whole log; gaps are allowed. */
  readonly sequence: number;
  readonly operationId: string;
  readonly tenantId: string;
  readonly batchId: string | null;
  readonly step: string;
  readonly status: StepStatus;
  readonly operationStatus: OperationStatus;
  readonly percent: number;
  readonly message: string;
  readonly at: Date;
}

/** Statuses in which an operation has ended. */
const endStatuses: OperationStatus[] = ['SUCCEEDED', 'COMPENSATED', 'FAILED', 'CANCELLED'];

/** Whether nothing follows an event. */
export function isLastEvent({ operationStatus }: ProgressEvent): boolean {
  return endStatuses.includes(operationStatus);
}

/** Whose events to read: an operation's, or those of all items of a batch. */
export type EventSelector = { readonly operationId: string } | { readonly batchId: string };

/**
 * Events after a sequence number, in order, no further than the oldest transaction still open that may
 * have written events: what commits late would slip in behind a reader that has gone past it.
 *
 * @param limit how many at most
 */
export async function readEvents(
  control: Control,
  selector: EventSelector,
  afterSequence: number,
  limit: number,
): Promise<ProgressEvent[]> {
  const [column, id] = selected(selector);
  const { rows } = await control
    .raw<{ rows: ProgressEvent[] }>(readStatement(column), [id, afterSequence, limit])
    .options({ name: `read_events_by_${column}` });
  return rows;
}

function selected(selector: EventSelector): readonly ['operation_id' | 'batch_id', string] {
  return 'batchId' in selector
    ? ['batch_id', selector.batchId]
    : ['operation_id', selector.operationId];
}

// `pg_snapshot_xmin` alone would be the limit if nobody else wrote on this server: transaction ids are
// those of all its databases, so a tenant with a transaction open for an hour would keep everybody's
// progress back for an hour. Left out of account is therefore who is seen to be still at work without
// a lock on the table: it has written no event so far, and what it will write gets higher numbers. One
// that ended between the snapshot and the look at the locks is not seen, and counts. The locks are
// looked at once, and only when there is something beyond the limit.
const readStatement = (column: 'operation_id' | 'batch_id'): string => `
  SELECT sequence, operation_id AS "operationId", tenant_id AS "tenantId", batch_id AS "batchId",
    step, status, operation_status AS "operationStatus", percent, message, at
  FROM ${controlSchema}.operation_events
  WHERE ${column} = ? AND sequence > ?
    AND (xid < pg_snapshot_xmin(pg_current_snapshot()) OR xid < (
      WITH locks AS MATERIALIZED (SELECT * FROM pg_locks)
      SELECT coalesce(
        (SELECT open FROM pg_snapshot_xip(pg_current_snapshot()) AS open
         WHERE CAST(open AS xid) NOT IN (
           SELECT bystander.transactionid FROM locks AS bystander
           WHERE bystander.locktype = 'transactionid' AND bystander.mode = 'ExclusiveLock'
             AND bystander.granted AND NOT EXISTS (
               SELECT FROM locks AS writing
               WHERE writing.virtualtransaction = bystander.virtualtransaction
                 AND writing.locktype = 'relation' AND writing.mode <> 'AccessShareLock'
                 AND writing.relation = CAST('${controlSchema}.operation_events' AS regclass)
                 AND writing.database =
                   (SELECT oid FROM pg_database WHERE datname = current_database())))
         ORDER BY open LIMIT 1),
        pg_snapshot_xmax(pg_current_snapshot()))))
  ORDER BY sequence LIMIT ?`;

/**
 * Whether a reader that came as far as `sequence` has seen the whole story of an operation, or of a
 * batch: each last event, or, where that was lost with the instance that knew it, all there are some
 * seconds after the end.
 */
export async function isWholeStory(
  control: Control,
  selector: EventSelector,
  sequence: number,
): Promise<boolean> {
  if ('batchId' in selector) return isWholeBatch(control, selector.batchId, sequence);
  const { operationId } = selector;
  const { rows } = await control
    .raw<{ rows: { whole: boolean }[] }>(wholeStatement, [
      sequence,
      endStatuses,
      sequence,
      operationId,
    ])
    .options({ name: 'is_whole_story' });
  return rows[0]?.whole ?? true; // an operation that is gone tells nothing more
}

async function isWholeBatch(control: Control, id: string, sequence: number): Promise<boolean> {
  const { rows } = await control
    .raw<{ rows: { whole: boolean }[] }>(wholeBatchStatement, [sequence, endStatuses, sequence, id])
    .options({ name: 'is_whole_batch' });
  return rows[0]?.whole ?? true;
}

/**
 * After the end, how long a last event is waited for: longer than it takes to be written, tries included, and
 * longer than another instance takes to write it where its writer is gone.
 */
const patience = '15 seconds';

// An item that was taken back has ended twice: its last event is what its row says now.
const wholeBatchStatement = `
  SELECT finished_at IS NOT NULL AND (
    NOT EXISTS (SELECT FROM ${controlSchema}.operations item
      WHERE item.batch_id = batch.id AND NOT EXISTS (
        SELECT FROM ${controlSchema}.operation_events event
        WHERE event.operation_id = item.id AND sequence <= ? AND operation_status = ANY (?)
          AND operation_status = item.status))
    OR finished_at < now() - interval '${patience}' AND NOT EXISTS (
      SELECT FROM ${controlSchema}.operation_events event
      WHERE event.batch_id = batch.id AND sequence > ?)) AS whole
  FROM ${controlSchema}.batches batch WHERE id = ?`;

/** How far a batch was when an event was written. */
export interface BatchProgress {
  readonly total: number;
  readonly succeeded: number;
  /** Refused, failed, cancelled or rolled back. */
  readonly failed: number;
  /** Of all items together; never falls, and is 100 only when all were made. */
  readonly percent: number;
}

/** How far a batch was at each of these events of it, by their sequence numbers. */
export async function readBatchProgress(
  control: Control,
  batchId: string,
  sequences: readonly number[],
): Promise<ReadonlyMap<number, BatchProgress>> {
  const { rows } = await control
    .raw<{ rows: (BatchProgress & { sequence: number })[] }>(progressStatement, [
      batchId,
      Math.max(...sequences),
      [...sequences],
      batchId,
    ])
    .options({ name: 'read_batch_progress' });
  return new Map(rows.map(({ sequence, ...progress }) => [sequence, progress]));
}

// One pass over the story, whatever the number of events asked for: each event changes its item's state,
// and so the sums. An item's percentage is the highest that it has shown.
const progressStatement = `
  WITH story AS (
    SELECT sequence, percent, operation_status = 'SUCCEEDED' AS made,
      operation_status IN ('COMPENSATED', 'FAILED', 'CANCELLED') AS failed, operation_id
    FROM ${controlSchema}.operation_events WHERE batch_id = ? AND sequence <= ?),
  changes AS (
    SELECT sequence,
      greatest(percent - coalesce(max(percent) OVER before, 0), 0) AS percents,
      CAST(made AS integer) - coalesce(CAST(lag(made) OVER item AS integer), 0) AS made,
      CAST(failed AS integer) - coalesce(CAST(lag(failed) OVER item AS integer), 0) AS failed
    FROM story WINDOW item AS (PARTITION BY operation_id ORDER BY sequence),
      before AS (item ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)),
  sums AS (
    SELECT sequence, sum(percents) OVER so_far AS percents, sum(made) OVER so_far AS made,
      sum(failed) OVER so_far AS failed
    FROM changes WINDOW so_far AS (ORDER BY sequence))
  SELECT sums.sequence, batch.total, sums.made AS succeeded,
    sums.failed + (SELECT count(*) FROM ${controlSchema}.batch_refusals refusal
      WHERE refusal.batch_id = batch.id) AS failed,
    CAST(floor(sums.percents / batch.total) AS integer) AS percent
  FROM unnest(CAST(? AS bigint[])) AS wanted (sequence) JOIN sums USING (sequence)
  JOIN ${controlSchema}.batches batch ON batch.id = ?`;

const wholeStatement = `
  SELECT finished_at IS NOT NULL AND (
    EXISTS (SELECT FROM ${controlSchema}.operation_events event
      WHERE event.operation_id = operation.id AND sequence <= ? AND operation_status = ANY (?))
    OR finished_at < now() - interval '${patience}' AND NOT EXISTS (
      SELECT FROM ${controlSchema}.operation_events event
      WHERE event.operation_id = operation.id AND sequence > ?)) AS whole
  FROM ${controlSchema}.operations operation WHERE id = ?`;
