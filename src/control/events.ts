import type { Knex } from 'knex';
import { controlSchema, type Control } from './database.ts';
import type { OperationStatus } from './operations.ts';

export const stepStatuses = [
  'STARTED',
  'SUCCEEDED',
  'RETRYING',
  'FAILED',
  'COMPENSATING',
  'COMPENSATED',
] as const;
export type StepStatus = (typeof stepStatuses)[number];

/** One thing that happened to a step. Holds no secret. */
export interface StepEvent {
  readonly operationId: string;
  /** That under which its writer holds the operation. */
  readonly fence: number;
  readonly tenantId: string;
  readonly step: string;
  /** Place of the step in its pipeline, from 0. */
  readonly position: number;
  readonly status: StepStatus;
  readonly attempt: number;
  readonly operationStatus: OperationStatus;
  readonly percent: number;
  readonly message: string;
  readonly at: Date;
  /** Milliseconds; null while the step runs. */
  readonly durationMs: number | null;
}

/** The state of one step, as the latest of its events left it. */
export interface OperationStep {
  readonly operationId: string;
  readonly name: string;
  readonly status: StepStatus;
  readonly attempts: number;
  readonly startedAt: Date | null;
  readonly finishedAt: Date | null;
  readonly durationMs: number | null;
}

/**
 * Appends events to the log, in order, brings the steps' states up to date, and tells listeners: one
 * statement, so one round trip. Events of an operation that was taken over meanwhile are left out: its
 * new holder writes the story anew.
 *
 * Sequence numbers are drawn before a commit. Writers take turns, over all instances, so that what was
 * drawn first is also there first: neither numbers nor transaction ids alone would say so. A turn is
 * no longer than the statement: a client that stalls in the middle of it holds nobody up.
 */
export async function appendEvents(control: Control, events: readonly StepEvent[]): Promise<void> {
  await control.raw(appendAll, appendValues(events)).options({ name: 'append_events' });
}

/**
 * Appends those of them that are not there: for whoever was not told what came of the first try. It may
 * still be under way on the server: it has its turn before this one looks.
 */
export async function appendEventsAgain(
  control: Knex,
  events: readonly StepEvent[],
): Promise<void> {
  await control.transaction(async (trx) => {
    await lockEventWriters(trx);
    await trx.raw(appendMissing, appendValues(events));
  });
}

function appendValues(events: readonly StepEvent[]): string[] {
  return [
    JSON.stringify(events.map((event, place) => ({ place, ...eventColumns(event) }))),
    JSON.stringify(latestSteps(events)),
  ];
}

/** Where listeners learn that there is something to read: ids of operations and batches, or nothing for 'anything'. */
export const eventChannel = 'control_plane_events';

/** Makes other writers of events wait until the transaction ends, for whoever looks before it writes. */
export async function lockEventWriters(trx: Control): Promise<void> {
  await trx.raw("SET LOCAL idle_in_transaction_session_timeout = '5s'");
  await trx.raw('SELECT pg_advisory_xact_lock(7311, 1)');
}

// A notification may have 8000 bytes, an id has 36.
const appendStatement = (which: string): string => `
  WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock(7311, 1)),
  told AS MATERIALIZED (
    SELECT event.*, held.batch_id
    FROM turn, jsonb_to_recordset(CAST(? AS jsonb)) AS event (
      place integer, operation_id uuid, fence bigint, tenant_id uuid, step text, status text,
      operation_status text, percent integer, message text, at timestamptz, duration_ms integer)
    JOIN ${controlSchema}.operations held ON held.id = event.operation_id AND held.fence = event.fence
    ${which}
  ),
  written AS (
    INSERT INTO ${controlSchema}.operation_events (operation_id, tenant_id, batch_id, step, status,
      operation_status, percent, message, at, duration_ms)
    SELECT operation_id, tenant_id, batch_id, step, status, operation_status, percent, message, at,
      duration_ms
    FROM told ORDER BY place
    RETURNING operation_id, batch_id
  ),
  stepped AS (
    INSERT INTO ${controlSchema}.operation_steps (operation_id, name, position, status, attempts,
      started_at, finished_at, duration_ms)
    SELECT step.operation_id, step.name, step.position, step.status, step.attempts, step.started_at,
      step.finished_at, step.duration_ms
    FROM jsonb_to_recordset(CAST(? AS jsonb)) AS step (
      operation_id uuid, fence bigint, name text, position integer, status text, attempts integer,
      started_at timestamptz, finished_at timestamptz, duration_ms integer)
    JOIN ${controlSchema}.operations held ON held.id = step.operation_id AND held.fence = step.fence
    ON CONFLICT (operation_id, name) DO UPDATE SET
      status = excluded.status,
      attempts = greatest(operation_steps.attempts, excluded.attempts),
      started_at = coalesce(operation_steps.started_at, excluded.started_at),
      finished_at = excluded.finished_at,
      duration_ms = coalesce(excluded.duration_ms, operation_steps.duration_ms)
  )
  SELECT pg_notify('${eventChannel}', CASE WHEN count(DISTINCT id) > 200 THEN ''
    ELSE string_agg(DISTINCT id::text, ' ') END)
  FROM written, unnest(ARRAY[operation_id, batch_id]) AS id WHERE id IS NOT NULL HAVING count(*) > 0`;

const appendAll = appendStatement('');
const appendMissing = appendStatement(`
    WHERE NOT EXISTS (SELECT FROM ${controlSchema}.operation_events there
      WHERE there.operation_id = event.operation_id AND there.step = event.step
        AND there.status = event.status AND there.message = event.message AND there.at = event.at)`);

/** The steps of these operations, each operation's in the order of its pipeline. */
export async function listSteps(
  control: Control,
  operationIds: readonly string[],
): Promise<OperationStep[]> {
  return (await control
    .withSchema(controlSchema)
    .from('operation_steps')
    .whereIn('operation_id', operationIds)
    .orderBy(['operation_id', 'position'])
    .select({
      operationId: 'operation_id',
      name: 'name',
      status: 'status',
      attempts: 'attempts',
      startedAt: 'started_at',
      finishedAt: 'finished_at',
      durationMs: 'duration_ms',
    })) as OperationStep[];
}

/** How far the events of these operations say they came, 0 to 100; without events: no entry. */
export async function listPercents(
  control: Control,
  operationIds: readonly string[],
): Promise<ReadonlyMap<string, number>> {
  const rows = (await control
    .withSchema(controlSchema)
    .from('operation_events')
    .whereIn('operation_id', operationIds)
    .groupBy('operation_id')
    .select({ operationId: 'operation_id' })
    .max({ percent: 'percent' })) as { operationId: string; percent: number }[];
  return new Map(rows.map((row) => [row.operationId, row.percent]));
}

function eventColumns(event: StepEvent): object {
  return {
    operation_id: event.operationId,
    fence: event.fence,
    tenant_id: event.tenantId,
    step: event.step,
    status: event.status,
    operation_status: event.operationStatus,
    percent: event.percent,
    message: event.message,
    at: event.at,
    duration_ms: event.durationMs,
  };
}

// One row a step: PostgreSQL refuses an upsert that meets one row twice.
function latestSteps(events: readonly StepEvent[]): object[] {
  const rows = new Map<string, Record<string, unknown>>();
  for (const event of events) {
    const key = `${event.operationId} ${event.fence} ${event.step}`;
    const earlier = rows.get(key);
    const ended = event.status !== 'STARTED' && event.status !== 'RETRYING';
    rows.set(key, {
      operation_id: event.operationId,
      fence: event.fence,
      name: event.step,
      position: event.position,
      status: event.status,
      // Its undo is one attempt, whatever it took to get there.
      attempts: Math.max(event.attempt, Number(earlier?.['attempts'] ?? 1)),
      started_at: earlier?.['started_at'] ?? startOf(event),
      finished_at: ended ? event.at : null,
      duration_ms: event.durationMs ?? earlier?.['duration_ms'] ?? null,
    });
  }
  return [...rows.values()];
}

function startOf(event: StepEvent): Date {
  return new Date(event.at.getTime() - (event.durationMs ?? 0));
}
