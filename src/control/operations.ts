import type { Knex } from 'knex';
import type { FailureCode } from '../errors.ts';
import { controlSchema, fromRow, type Control } from './database.ts';
import { readPage, type Page, type PageRequest } from './pages.ts';
import { scoped, type Scope } from './tenants.ts';

export const operationKinds = [
  'CREATE',
  'DELETE',
  'RESTORE',
  'PURGE',
  'SUSPEND',
  'RESUME',
  'ROTATE_CREDENTIALS',
  'MIGRATE',
] as const;
export type OperationKind = (typeof operationKinds)[number];

export const operationStatuses = [
  'SCHEDULED',
  'QUEUED',
  'RUNNING',
  'COMPENSATING',
  'SUCCEEDED',
  'COMPENSATED',
  'FAILED',
  'CANCELLED',
] as const;
export type OperationStatus = (typeof operationStatuses)[number];

/** One run of a pipeline on one tenant. */
export interface Operation {
  readonly id: string;
  readonly kind: OperationKind;
  readonly status: OperationStatus;
  readonly tenantId: string;
  /** The batch it belongs to, and its place in the request; null: it was asked for alone. */
  readonly batchId: string | null;
  readonly batchIndex: number | null;
  /** Undone or cancelled because another item of its atomic batch failed. */
  readonly rolledBack: boolean;
  readonly partner: string;
  readonly actor: string;
  readonly requestId: string | null;
  /** Raised by a takeover; whoever writes with an older one has lost the operation. */
  readonly fence: number;
  readonly errorCode: FailureCode | null;
  readonly errorMessage: string | null;
  /** Null: it goes on for as long as it takes. */
  readonly deadlineAt: Date | null;
  readonly createdAt: Date;
  readonly startedAt: Date | null;
  readonly finishedAt: Date | null;
}

/** Columns by the names of their properties. */
export const operationColumns = {
  id: 'id',
  kind: 'kind',
  status: 'status',
  tenantId: 'tenant_id',
  batchId: 'batch_id',
  batchIndex: 'batch_index',
  rolledBack: 'rolled_back',
  partner: 'partner',
  actor: 'actor',
  requestId: 'request_id',
  fence: 'fence',
  errorCode: 'error_code',
  errorMessage: 'error_message',
  deadlineAt: 'deadline_at',
  createdAt: 'created_at',
  startedAt: 'started_at',
  finishedAt: 'finished_at',
} as const satisfies Record<keyof Operation, string>;

/** Which operation and at which fence: what every write of its runner names. */
export type OperationHold = Pick<Operation, 'id' | 'fence'>;

/** The operation was taken over: its writes have no effect any more, and its runner stops. */
export class FenceLostError extends Error {
  override readonly name = 'FenceLostError';
  readonly code = 'FENCE_LOST';

  constructor(id: string) {
    super(`operation ${id} was taken over or has ended`);
  }
}

export interface NewOperation {
  readonly id: string;
  readonly kind: OperationKind;
  readonly tenantId: string;
  readonly partner: string;
  readonly actor: string;
  readonly requestId: string | null;
  readonly secretsEncrypted: string | null;
  /** Seconds from now, by the database's clock: instances need not agree on the time. Null: none. */
  readonly deadlineSeconds: number | null;
  /** Its place in a batch: it is QUEUED until somebody begins it. */
  readonly batch?: { readonly id: string; readonly index: number };
  /** Whether its time has not come: it is SCHEDULED until then. */
  readonly scheduled?: boolean;
}

/**
 * Inserts operations; answers by id. Those of no batch that are not for later are RUNNING, held by the
 * inserting instance at fence 1.
 */
export async function insertOperations(
  trx: Control,
  operations: readonly NewOperation[],
): Promise<ReadonlyMap<string, Operation>> {
  const rows = (await operationTable(trx)
    .insert(
      operations.map((operation) => ({
        id: operation.id,
        kind: operation.kind,
        status: statusOf(operation),
        tenant_id: operation.tenantId,
        batch_id: operation.batch?.id ?? null,
        batch_index: operation.batch?.index ?? null,
        partner: operation.partner,
        actor: operation.actor,
        request_id: operation.requestId,
        secrets_encrypted: operation.secretsEncrypted,
        deadline_at: trx.raw("now() + CAST(? AS float8) * interval '1 second'", [
          operation.deadlineSeconds,
        ]),
        started_at: statusOf(operation) === 'RUNNING' ? trx.fn.now() : null,
      })),
    )
    .returning(Object.values(operationColumns))
    .options({
      // Those that begin at once have another text: never in one statement with those that wait.
      name: `insert_operations_${operations.length}${operations.every(waits) ? '_waiting' : ''}`,
    })) as Record<string, unknown>[];
  return new Map(
    rows
      .map((row) => fromRow<Operation>(operationColumns, row))
      .map((operation) => [operation.id, operation]),
  );
}

function waits(operation: NewOperation): boolean {
  return statusOf(operation) !== 'RUNNING';
}

function statusOf({ batch, scheduled }: NewOperation): 'RUNNING' | 'QUEUED' | 'SCHEDULED' {
  if (scheduled === true) return 'SCHEDULED';
  return batch === undefined ? 'RUNNING' : 'QUEUED';
}

/** Inserts one operation: see `insertOperations`. */
export async function insertOperation(trx: Control, operation: NewOperation): Promise<Operation> {
  const inserted = (await insertOperations(trx, [operation])).get(operation.id);
  if (inserted === undefined) throw new Error('the inserted operation did not come back');
  return inserted;
}

/** One operation that the scope may see. */
export async function findOperation(
  control: Control,
  scope: Scope,
  id: string,
): Promise<Operation | null> {
  const query = scoped(operationTable(control), scope, 'tenant_id').where('id', id);
  return ((await query.first(operationColumns)) as Operation | undefined) ?? null;
}

/** The operation on a tenant that is open, else the latest one; null: none that the scope may see. */
export async function findCurrentOperation(
  control: Control,
  scope: Scope,
  tenantId: string,
): Promise<Operation | null> {
  const query = scoped(operationTable(control), scope, 'tenant_id')
    .where('tenant_id', tenantId)
    .orderByRaw('finished_at IS NULL DESC, created_at DESC, id');
  return ((await query.first(operationColumns)) as Operation | undefined) ?? null;
}

export interface OperationFilter {
  readonly kind?: readonly OperationKind[];
  readonly status?: readonly OperationStatus[];
  readonly tenantId?: string;
  readonly batchId?: string;
}

/** One page of the operations that the scope may see, newest first. */
export function listOperations(
  control: Control,
  scope: Scope,
  filter: OperationFilter,
  page: PageRequest,
): Promise<Page<Operation>> {
  const query = scoped(operationTable(control), scope, 'tenant_id');
  if (filter.kind !== undefined) void query.whereIn('kind', filter.kind);
  if (filter.status !== undefined) void query.whereIn('status', filter.status);
  if (filter.tenantId !== undefined) void query.where('tenant_id', filter.tenantId);
  if (filter.batchId !== undefined) void query.where('batch_id', filter.batchId);
  const order = { column: 'created_at', type: 'timestamptz', descending: true } as const;
  return readPage<Operation>(query, operationColumns, order, page);
}

/** The sealed secrets that a resuming instance needs; null: none, or the operation has ended. */
export async function operationSecrets(control: Control, id: string): Promise<string | null> {
  const row = (await operationTable(control).where({ id }).first('secrets_encrypted')) as
    { secrets_encrypted: string | null } | undefined;
  return row?.secrets_encrypted ?? null;
}

/** Whether an operation on this tenant has not ended. */
export async function hasOpenOperation(control: Control, tenantId: string): Promise<boolean> {
  const row: unknown = await operationTable(control)
    .where({ tenant_id: tenantId })
    .whereNull('finished_at')
    .first('id');
  return row !== undefined;
}

/** Takes an open operation over: raises its fence, so that whoever held it is locked out. */
export async function takeOver(control: Control, id: string): Promise<Operation | null> {
  const changed = await operationTable(control)
    .where({ id })
    .whereIn('status', ['RUNNING', 'COMPENSATING'])
    .update({ fence: control.raw('fence + 1') });
  return changed === 0 ? null : findOperation(control, null, id);
}

/**
 * Locks an open operation that is still held: nobody takes it over until the transaction ends.
 *
 * @throws FenceLostError
 */
export async function lockHeld(trx: Knex.Transaction, hold: OperationHold): Promise<void> {
  const row: unknown = await held(trx, hold).whereNull('finished_at').forNoKeyUpdate().first('id');
  if (row === undefined) throw new FenceLostError(hold.id);
}

/** Why an operation fails or does not come to its end. */
export interface OperationError {
  readonly code: FailureCode;
  readonly message: string;
}

/**
 * Records why a RUNNING operation does not come to its end at present; null: it goes on again.
 *
 * @throws FenceLostError
 */
export async function recordOperationError(
  control: Control,
  hold: OperationHold,
  error: OperationError | null,
): Promise<void> {
  const changed = await held(control, hold)
    .where({ status: 'RUNNING' })
    .update({ error_code: error?.code ?? null, error_message: error?.message ?? null });
  if (changed === 0) throw new FenceLostError(hold.id);
}

/** RUNNING operations whose present step has failed, and is tried again, for health. */
export async function countFailingRunning(control: Control): Promise<number> {
  const row = (await operationTable(control)
    .where({ status: 'RUNNING' })
    .whereNotNull('error_code')
    .count({ count: '*' })
    .first()) as { count: number };
  return row.count;
}

/** Whether nobody has taken an operation over, and it has not ended. */
export async function isHeld(control: Control, hold: OperationHold): Promise<boolean> {
  const row: unknown = await held(control, hold).whereNull('finished_at').first('id');
  return row !== undefined;
}

/**
 * Milliseconds until an operation's deadline, by the database's clock; negative when it has passed, null
 * where it has none.
 */
export async function remainingMs(control: Control, id: string): Promise<number | null> {
  const row = (await operationTable(control)
    .where({ id })
    .first({ left: control.raw('extract(epoch FROM deadline_at - now())::float8 * 1000') })) as
    { left: number | null } | undefined;
  return row === undefined ? 0 : row.left;
}

/**
 * RUNNING → COMPENSATING, with the error that started it. COMPENSATING already is fine: the answer to
 * an earlier try was lost.
 */
export async function startCompensation(
  control: Control,
  hold: OperationHold,
  error: OperationError,
): Promise<void> {
  const changed = await held(control, hold)
    .whereIn('status', ['RUNNING', 'COMPENSATING'])
    .update({ status: 'COMPENSATING', error_code: error.code, error_message: error.message });
  if (changed === 0) throw new FenceLostError(hold.id);
}

/** How operations end, and the statuses that go before. */
const statusBefore = { SUCCEEDED: 'RUNNING', COMPENSATED: 'COMPENSATING' } as const;

/**
 * Locks operations that are about to end until the transaction does: none can be taken over any more.
 *
 * @throws FenceLostError naming one that is not held any more
 */
export async function lockHeldOperations(
  trx: Control,
  holds: readonly OperationHold[],
  end: keyof typeof statusBefore,
): Promise<void> {
  const rows = (await allHeld(trx, holds)
    .where({ status: statusBefore[end] })
    .forNoKeyUpdate()
    .select('id')
    .options({ name: 'lock_held_operations' })) as { id: string }[];
  const locked = new Set(rows.map(({ id }) => id));
  const lost = holds.find(({ id }) => !locked.has(id));
  if (lost !== undefined) throw new FenceLostError(lost.id);
}

/**
 * RUNNING → SUCCEEDED, or COMPENSATING → COMPENSATED; CANCELLED where it had not begun: all of them, in
 * the order of the holds. The sealed secrets go with the end. To be sent right before the commit: the time
 * of the end is that of this statement.
 *
 * @throws FenceLostError naming one that is not held any more
 */
export async function endOperations(
  trx: Control,
  holds: readonly OperationHold[],
  status: 'SUCCEEDED' | 'COMPENSATED',
): Promise<Operation[]> {
  const rows = (await allHeld(trx, holds)
    .where({ status: statusBefore[status] })
    .update({
      status:
        status === 'SUCCEEDED'
          ? status
          : trx.raw("CASE WHEN started_at IS NULL THEN 'CANCELLED' ELSE 'COMPENSATED' END"),
      finished_at: trx.raw('clock_timestamp()'),
      secrets_encrypted: null,
      ...(status === 'SUCCEEDED' ? { error_code: null, error_message: null } : {}),
    })
    .returning(Object.values(operationColumns))
    .options({ name: `end_operations_${status}` })) as Record<string, unknown>[];
  const ended = rows.map((row) => fromRow<Operation>(operationColumns, row));
  return holds.map((hold) => {
    const operation = ended.find(({ id }) => id === hold.id);
    if (operation === undefined) throw new FenceLostError(hold.id);
    return operation;
  });
}

/** Operations whose undo has not finished, for health. */
export async function countCompensating(control: Control): Promise<number> {
  const row = (await operationTable(control)
    .where({ status: 'COMPENSATING' })
    .count({ count: '*' })
    .first()) as { count: number };
  return row.count;
}

function allHeld(control: Control, holds: readonly OperationHold[]): Knex.QueryBuilder {
  const given = [holds.map(({ id }) => id), holds.map(({ fence }) => fence)];
  return operationTable(control).whereRaw(
    '(id, fence) IN (SELECT * FROM unnest(CAST(? AS uuid[]), CAST(? AS bigint[])))',
    given as Knex.Value[],
  );
}

function held(control: Control, hold: OperationHold): Knex.QueryBuilder {
  return operationTable(control).where({ id: hold.id, fence: hold.fence });
}

/** A query on the table of operations. */
export function operationTable(control: Control): Knex.QueryBuilder {
  return control.withSchema(controlSchema).from('operations');
}
