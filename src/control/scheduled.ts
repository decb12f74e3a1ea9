import type { Knex } from 'knex';
import type { FailureCode } from '../errors.ts';
import { appendEvents } from './events.ts';
import { controlSchema, fromRow, type Control } from './database.ts';
import { operationColumns, operationTable, type Operation } from './operations.ts';
import { scoped, type Scope } from './tenants.ts';

/** Whether the time of anything has come. Asked every second, so without a transaction. */
export async function isAnythingDue(control: Control): Promise<boolean> {
  const { rows } = await control
    .raw<{ rows: { due: boolean }[] }>(
      `SELECT EXISTS (SELECT FROM ${controlSchema}.operations operation
         JOIN ${controlSchema}.tenants tenant ON tenant.id = operation.tenant_id
         WHERE operation.status = 'SCHEDULED' AND tenant.provision_at <= now()) AS due`,
    )
    .options({ name: 'is_anything_due' });
  return rows[0]?.due === true;
}

/**
 * SCHEDULED → RUNNING, for creations of no batch whose time has come, and their tenants to PROVISIONING.
 * Whoever begins them holds them at fence 1; another instance that looks at the same time gets others.
 *
 * @param clusters those that take tenants at present: what belongs elsewhere waits
 * @param limit how many at most
 * @param timeoutSeconds from now to each one's deadline
 */
export async function beginDueOperations(
  trx: Knex.Transaction,
  options: {
    readonly clusters: readonly string[];
    readonly limit: number;
    readonly timeoutSeconds: number;
  },
): Promise<Operation[]> {
  const { rows } = await trx
    .raw<{
      rows: Record<string, unknown>[];
    }>(beginStatement, [
      options.clusters as string[],
      options.limit,
      options.timeoutSeconds,
    ] as Knex.RawBinding[])
    .options({ name: 'begin_due_operations' });
  return rows.map((row) => fromRow<Operation>(operationColumns, row));
}

const beginStatement = `
  WITH due AS (
    SELECT operation.id, operation.tenant_id FROM ${controlSchema}.operations operation
    JOIN ${controlSchema}.tenants tenant ON tenant.id = operation.tenant_id
    JOIN ${controlSchema}.tenant_databases place ON place.tenant_id = operation.tenant_id
    WHERE operation.status = 'SCHEDULED' AND operation.batch_id IS NULL
      AND tenant.provision_at <= now() AND place.cluster = ANY (?)
    ORDER BY tenant.provision_at LIMIT ? FOR NO KEY UPDATE OF operation SKIP LOCKED),
  opened AS (
    UPDATE ${controlSchema}.tenants tenant SET status = 'PROVISIONING', updated_at = now()
    FROM due WHERE tenant.id = due.tenant_id AND tenant.status = 'SCHEDULED')
  UPDATE ${controlSchema}.operations operation
  SET status = 'RUNNING', started_at = now(), deadline_at = now() + ? * interval '1 second'
  FROM due WHERE operation.id = due.id RETURNING operation.*`;

/**
 * SCHEDULED → QUEUED, for items of batches whose time has come, and their tenants to PROVISIONING. From
 * now on the time of their batches runs.
 *
 * @param timeoutSeconds within which they have to begin
 * @returns the items
 */
export async function releaseDueItems(
  trx: Knex.Transaction,
  timeoutSeconds: number,
): Promise<Operation[]> {
  const { rows } = await trx
    .raw<{ rows: Record<string, unknown>[] }>(releaseStatement, [timeoutSeconds])
    .options({ name: 'release_due_items' });
  return rows.map((row) => fromRow<Operation>(operationColumns, row));
}

const releaseStatement = `
  WITH due AS (
    SELECT operation.id, operation.tenant_id, operation.batch_id
    FROM ${controlSchema}.operations operation
    JOIN ${controlSchema}.tenants tenant ON tenant.id = operation.tenant_id
    WHERE operation.status = 'SCHEDULED' AND operation.batch_id IS NOT NULL
      AND tenant.provision_at <= now()
    FOR NO KEY UPDATE OF operation SKIP LOCKED),
  opened AS (
    UPDATE ${controlSchema}.tenants tenant SET status = 'PROVISIONING', updated_at = now()
    FROM due WHERE tenant.id = due.tenant_id AND tenant.status = 'SCHEDULED'),
  timed AS (
    UPDATE ${controlSchema}.batches batch
    SET deadline_at = greatest(deadline_at, now() + ? * interval '1 second')
    WHERE id IN (SELECT batch_id FROM due))
  UPDATE ${controlSchema}.operations operation SET status = 'QUEUED'
  FROM due WHERE operation.id = due.id RETURNING operation.*`;

/** One operation that the scope may see, its row locked until the transaction ends. */
export async function lockOperation(
  trx: Knex.Transaction,
  scope: Scope,
  id: string,
): Promise<Operation | null> {
  const query = scoped(operationTable(trx), scope, 'tenant_id').where('id', id).forNoKeyUpdate();
  return ((await query.first(operationColumns)) as Operation | undefined) ?? null;
}

/** Why something ends before it began. */
export interface CancelReason {
  readonly code: FailureCode;
  readonly message: string;
  /** Because another item of its atomic batch failed. */
  readonly rolledBack: boolean;
}

/** QUEUED → COMPENSATING, for one item of a batch. False: it has begun meanwhile. */
export async function cancelQueuedItem(
  trx: Knex.Transaction,
  id: string,
  reason: CancelReason,
): Promise<boolean> {
  const changed = await operationTable(trx)
    .where({ id, status: 'QUEUED' })
    .update({ status: 'COMPENSATING', ...reasonColumns(reason) });
  return changed === 1;
}

/**
 * SCHEDULED → CANCELLED, with everything that was kept for it: nothing was made, so its tenant is FAILED,
 * and names, keys and idempotency keys are free at once.
 *
 * @param of the operation, or all such items of a batch
 */
export async function cancelScheduled(
  trx: Knex.Transaction,
  of: { readonly id: string } | { readonly batchId: string },
  reason: CancelReason,
): Promise<Operation[]> {
  const chosen = 'id' in of ? { id: of.id } : { batch_id: of.batchId };
  const rows = (await operationTable(trx)
    .where({ ...chosen, status: 'SCHEDULED' })
    .update({
      status: 'CANCELLED',
      finished_at: trx.raw('clock_timestamp()'),
      secrets_encrypted: null,
      ...reasonColumns(reason),
    })
    .returning(Object.values(operationColumns))) as Record<string, unknown>[];
  const operations = rows.map((row) => fromRow<Operation>(operationColumns, row));
  const ids = operations.map(({ id }) => id);
  const tenantIds = operations.map(({ tenantId }) => tenantId);
  const table = (name: string): Knex.QueryBuilder => trx.withSchema(controlSchema).from(name);
  await table('tenants')
    .whereIn('id', tenantIds)
    .update({ status: 'FAILED', updated_at: trx.fn.now() });
  await table('tenant_databases')
    .whereIn('tenant_id', tenantIds)
    .update({ status: 'DROPPED', updated_at: trx.fn.now() });
  await table('api_keys').whereIn('tenant_id', tenantIds).delete();
  await table('idempotency_records').whereIn('operation_id', ids).delete();
  return operations;
}

function reasonColumns({ code, message, rolledBack }: CancelReason): object {
  return { error_code: code, error_message: message, rolled_back: rolledBack };
}

/**
 * Tells those who follow them that operations that never began have ended.
 *
 * @returns ids of the operations and batches that have news: see `appendEvents`
 */
export async function tellCancelled(
  control: Control,
  operations: readonly Operation[],
): Promise<string[]> {
  if (operations.length === 0) return [];
  return appendEvents(
    control,
    operations.map((operation) => ({
      operationId: operation.id,
      fence: operation.fence,
      tenantId: operation.tenantId,
      step: 'reserve',
      position: 1,
      status: 'COMPENSATED',
      attempt: 1,
      operationStatus: 'CANCELLED',
      percent: 0,
      message: operation.errorMessage ?? 'Cancelled',
      at: new Date(),
      durationMs: null,
    })),
  );
}
