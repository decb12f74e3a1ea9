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

/** Appends events to the log, in order, and brings the steps' states up to date: one transaction. */
export async function appendEvents(control: Knex, events: readonly StepEvent[]): Promise<void> {
  await control.transaction(async (trx) => {
    await trx
      .withSchema(controlSchema)
      .from('operation_events')
      .insert(
        events.map((event) => ({
          operation_id: event.operationId,
          tenant_id: event.tenantId,
          step: event.step,
          status: event.status,
          operation_status: event.operationStatus,
          percent: event.percent,
          message: event.message,
          at: event.at,
          duration_ms: event.durationMs,
        })),
      );
    await trx
      .withSchema(controlSchema)
      .from('operation_steps')
      .insert(latestSteps(events))
      .onConflict(['operation_id', 'name'])
      .merge({
        status: trx.raw('excluded.status'),
        attempts: trx.raw('excluded.attempts'),
        started_at: trx.raw('coalesce(operation_steps.started_at, excluded.started_at)'),
        finished_at: trx.raw('excluded.finished_at'),
        duration_ms: trx.raw('coalesce(excluded.duration_ms, operation_steps.duration_ms)'),
      });
  });
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

// One row a step: PostgreSQL refuses an upsert that meets one row twice.
function latestSteps(events: readonly StepEvent[]): object[] {
  const rows = new Map<string, Record<string, unknown>>();
  for (const event of events) {
    const key = `${event.operationId} ${event.step}`;
    const earlier = rows.get(key);
    const ended = event.status !== 'STARTED' && event.status !== 'RETRYING';
    rows.set(key, {
      operation_id: event.operationId,
      name: event.step,
      position: event.position,
      status: event.status,
      attempts: event.attempt,
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
