import type { Knex } from 'knex';
import type { Failure } from '../errors.ts';
import { deactivateApiKeys } from './api-keys.ts';
import { controlSchema, fromRow, type Control } from './database.ts';
import { releaseBatchKeys } from './idempotency.ts';
import { operationColumns, operationTable, type Operation } from './operations.ts';
import { readPage, type Page, type PageRequest } from './pages.ts';
import { reopenTenantDatabases } from './tenant-databases.ts';
import { reopenTenants, type Scope } from './tenants.ts';

export const batchStatuses = [
  'RUNNING',
  'SUCCEEDED',
  'PARTIALLY_FAILED',
  'FAILED',
  'ROLLED_BACK',
  'CANCELLED',
] as const;
export type BatchStatus = (typeof batchStatuses)[number];

/** Creations that were asked for together. */
export interface Batch {
  readonly id: string;
  readonly partner: string;
  readonly status: BatchStatus;
  /** All or nothing. */
  readonly atomic: boolean;
  /** Items, those that were refused included. */
  readonly total: number;
  readonly createdAt: Date;
  /** When its first tenants begin; null: at once. */
  readonly provisionAt: Date | null;
  /** Items that have not begun by then are cancelled. */
  readonly deadlineAt: Date;
  readonly finishedAt: Date | null;
}

const columns = {
  id: 'id',
  partner: 'partner',
  status: 'status',
  atomic: 'atomic',
  total: 'total',
  createdAt: 'created_at',
  provisionAt: 'provision_at',
  deadlineAt: 'deadline_at',
  finishedAt: 'finished_at',
} as const satisfies Record<keyof Batch, string>;

export interface NewBatch {
  readonly id: string;
  readonly partner: string;
  readonly atomic: boolean;
  readonly total: number;
  /** Seconds within which items have to begin. */
  readonly timeoutSeconds: number;
  /** Null: at once. */
  readonly provisionAt: Date | null;
  /** Whether it has items to make; without, it has failed already. */
  readonly hasItems: boolean;
}

/** One item of a batch: what is made of it, or why nothing. */
export interface BatchItem {
  /** Place in the request, from 0. */
  readonly index: number;
  readonly operation: Operation | null;
  /** Of an item that was refused at once. */
  readonly failures: readonly Failure[];
}

/** Inserts a batch. */
export async function insertBatch(trx: Control, batch: NewBatch): Promise<Batch> {
  const rows = (await table(trx)
    .insert({
      id: batch.id,
      partner: batch.partner,
      status: batch.hasItems ? 'RUNNING' : 'FAILED',
      atomic: batch.atomic,
      total: batch.total,
      provision_at: batch.provisionAt,
      deadline_at: trx.raw("now() + ? * interval '1 second'", [batch.timeoutSeconds]),
      finished_at: batch.hasItems ? null : trx.fn.now(),
    })
    .returning('*')) as Record<string, unknown>[];
  return fromRow<Batch>(columns, rows[0] ?? {});
}

/** Records the items for which nothing else is recorded. */
export async function insertRefusals(
  trx: Control,
  batchId: string,
  refusals: readonly Pick<BatchItem, 'index' | 'failures'>[],
): Promise<void> {
  if (refusals.length === 0) return;
  await refusalTable(trx).insert(
    refusals.map(({ index, failures }) => ({
      batch_id: batchId,
      batch_index: index,
      failures: JSON.stringify(failures),
    })),
  );
}

/** One batch that the scope may see. */
export async function findBatch(control: Control, scope: Scope, id: string): Promise<Batch | null> {
  return (
    ((await scoped(table(control), scope).where({ id }).first(columns)) as Batch | undefined) ??
    null
  );
}

/** Batches by id that the scope may see, in no order. */
export async function findBatches(
  control: Control,
  scope: Scope,
  ids: readonly string[],
): Promise<Batch[]> {
  return (await scoped(table(control), scope).whereIn('id', ids).select(columns)) as Batch[];
}

/** One page of the batches that the scope may see, newest first. */
export function listBatches(
  control: Control,
  scope: Scope,
  page: PageRequest,
): Promise<Page<Batch>> {
  const order = { column: 'created_at', type: 'timestamptz', descending: true } as const;
  return readPage<Batch>(scoped(table(control), scope), columns, order, page);
}

/** The items of a batch, in the order of the request. */
export async function listBatchItems(control: Control, batchId: string): Promise<BatchItem[]> {
  const [operations, refusals] = await Promise.all([
    operationTable(control).where({ batch_id: batchId }).select(operationColumns) as Promise<
      Operation[]
    >,
    refusalTable(control)
      .where({ batch_id: batchId })
      .select({ index: 'batch_index', failures: 'failures' }) as Promise<
      { index: number; failures: Failure[] }[]
    >,
  ]);
  return [
    ...refusals.map((refusal) => ({ ...refusal, operation: null })),
    ...operations.map((operation) => ({
      index: operation.batchIndex ?? 0,
      operation,
      failures: [],
    })),
  ].sort((a, b) => a.index - b.index);
}

/** The batches that have not ended and whose time has come, or of which something was cancelled before. */
export async function listRunningBatches(control: Control): Promise<string[]> {
  const rows = (await table(control)
    .where({ status: 'RUNNING' })
    .whereRaw(
      `(coalesce(provision_at <= now(), true) OR EXISTS (
        SELECT FROM ${controlSchema}.operations item
        WHERE item.batch_id = batches.id AND item.finished_at IS NOT NULL))`,
    )
    .select('id')
    .options({ name: 'running_batches' })) as { id: string }[];
  return rows.map(({ id }) => id);
}

/** How far a batch is, for whoever decides what comes next. */
export interface BatchState {
  readonly atomic: boolean;
  readonly total: number;
  /** Its deadline has passed. */
  readonly late: boolean;
  /** Items whose time has not come. */
  readonly scheduled: number;
  readonly queued: number;
  readonly running: number;
  readonly compensating: number;
  readonly succeeded: number;
  /** Ended without success. */
  readonly failed: number;
  /** Of these, those that never began. */
  readonly cancelled: number;
}

/** How far a batch that has not ended is; null: it has ended. */
export async function batchState(control: Control, id: string): Promise<BatchState | null> {
  const { rows } = await control
    .raw<{ rows: BatchState[] }>(stateStatement, [id])
    .options({ name: 'batch_state' });
  return rows[0] ?? null;
}

// A tenant that was purged meanwhile is gone: there is nothing to take back.
const stateStatement = `
  SELECT batch.atomic, batch.total, batch.deadline_at <= now() AS late,
    count(*) FILTER (WHERE item.status = 'SCHEDULED') AS scheduled,
    count(*) FILTER (WHERE item.status = 'QUEUED') AS queued,
    count(*) FILTER (WHERE item.status = 'RUNNING') AS running,
    count(*) FILTER (WHERE item.status = 'COMPENSATING') AS compensating,
    count(*) FILTER (WHERE item.status = 'SUCCEEDED'
      AND NOT (batch.atomic AND tenant.status = 'PURGED')) AS succeeded,
    count(*) FILTER (WHERE item.status IN ('COMPENSATED', 'FAILED', 'CANCELLED')) AS failed,
    count(*) FILTER (WHERE item.status = 'CANCELLED') AS cancelled
  FROM ${controlSchema}.batches batch
  LEFT JOIN ${controlSchema}.operations item ON item.batch_id = batch.id
  LEFT JOIN ${controlSchema}.tenants tenant ON tenant.id = item.tenant_id
  WHERE batch.id = ? AND batch.status = 'RUNNING'
  GROUP BY batch.id`;

/** Locks a batch that has not ended until the transaction does; false: it has ended. */
export async function lockBatch(trx: Knex.Transaction, id: string): Promise<boolean> {
  const row: unknown = await table(trx).where({ id, status: 'RUNNING' }).forUpdate().first('id');
  return row !== undefined;
}

/** QUEUED → COMPENSATING, for items that will not begin any more. Answers with their ids. */
export async function cancelQueuedItems(
  trx: Knex.Transaction,
  batchId: string,
  reason: { readonly message: string; readonly rolledBack: boolean },
): Promise<string[]> {
  return await changed(
    operationTable(trx).where({ batch_id: batchId, status: 'QUEUED' }).update({
      status: 'COMPENSATING',
      error_code: 'PROVISIONING_FAILED',
      error_message: reason.message,
      rolled_back: reason.rolledBack,
    }),
  );
}

/**
 * SUCCEEDED → COMPENSATING, for the items of an atomic batch that failed: their tenants are in the
 * making again, and their keys without effect. Answers with the operations' ids.
 *
 * Breaks `operations_one_open` while something else is being done to one of the tenants.
 */
export async function reopenItems(
  trx: Knex.Transaction,
  batchId: string,
  message: string,
): Promise<string[]> {
  const reopened = await operationTable(trx)
    .where({ batch_id: batchId, status: 'SUCCEEDED' })
    .whereNotExists(
      trx
        .withSchema(controlSchema)
        .from('tenants')
        .whereRaw('tenants.id = operations.tenant_id')
        .where('tenants.status', 'PURGED'),
    )
    .update({
      status: 'COMPENSATING',
      fence: trx.raw('fence + 1'),
      finished_at: null,
      error_code: 'PROVISIONING_FAILED',
      error_message: message,
      rolled_back: true,
    })
    .returning(['id', 'tenant_id']);
  const rows = reopened as { id: string; tenant_id: string }[];
  const tenantIds = rows.map((row) => row.tenant_id);
  await Promise.all([
    reopenTenants(trx, tenantIds),
    reopenTenantDatabases(trx, tenantIds),
    deactivateApiKeys(trx, tenantIds),
  ]);
  return rows.map((row) => row.id);
}

/** RUNNING → its end. When nothing was made, its keys are free again. */
export async function endBatch(
  trx: Knex.Transaction,
  id: string,
  status: Exclude<BatchStatus, 'RUNNING'>,
): Promise<void> {
  await table(trx)
    .where({ id, status: 'RUNNING' })
    .update({ status, finished_at: trx.raw('clock_timestamp()') });
  if (status !== 'SUCCEEDED' && status !== 'PARTIALLY_FAILED') await releaseBatchKeys(trx, id);
}

async function changed(update: Knex.QueryBuilder): Promise<string[]> {
  const rows = (await update.returning('id')) as { id: string }[];
  return rows.map(({ id }) => id);
}

function table(control: Control): Knex.QueryBuilder {
  return control.withSchema(controlSchema).from('batches');
}

function refusalTable(control: Control): Knex.QueryBuilder {
  return control.withSchema(controlSchema).from('batch_refusals');
}

function scoped(query: Knex.QueryBuilder, scope: Scope): Knex.QueryBuilder {
  if (scope === null) return query;
  // A tenant sees itself, and not what it was asked for together with.
  return 'partner' in scope ? query.where('partner', scope.partner) : query.whereRaw('false');
}
