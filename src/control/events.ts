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
 * Appends events to the log, in order, and brings the states of their steps up to date: one statement, so
 * one round trip. Events of an operation that was taken over meanwhile are left out: its new holder writes
 * the story anew. So are events that are there already: an instance that got no answer sends them again.
 *
 * Sequence numbers are drawn before a commit. Writers take turns, over all instances, so that what was
 * drawn first is also there first: neither numbers nor transaction ids alone would say so. A turn is
 * no longer than the statement: a client that stalls in the middle of it holds nobody up. The lock comes
 * before the look at the fences, and whatever raises a fence takes it too: see
 * `control_plane.append_events` in migrations/20261128000017_event_fence.ts.
 *
 * @returns ids of the operations and batches that have news: once it is committed, a hint may go out
 */
export async function appendEvents(
  control: Control,
  events: readonly StepEvent[],
): Promise<string[]> {
  const { rows } = await control
    .raw<{ rows: { id: string }[] }>(
      `SELECT id FROM ${controlSchema}.append_events(CAST(? AS jsonb), CAST(? AS jsonb)) AS id`,
      appendValues(events),
    )
    .options({ name: 'append_events' });
  return rows.map(({ id }) => id);
}

function appendValues(events: readonly StepEvent[]): string[] {
  return [
    JSON.stringify(events.map((event, place) => ({ place, ...eventColumns(event) }))),
    JSON.stringify(latestSteps(events)),
  ];
}

/** Makes other writers of events wait until the transaction ends, for whoever looks before it writes. */
export async function lockEventWriters(trx: Control): Promise<void> {
  await trx.raw("SET LOCAL idle_in_transaction_session_timeout = '5s'");
  await trx.raw('SELECT pg_advisory_xact_lock(7311, 1)');
}

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
