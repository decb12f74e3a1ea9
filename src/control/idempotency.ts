import type { Knex } from 'knex';
import { controlSchema, type Control } from './database.ts';

/** To what an idempotency key is bound. */
export interface IdempotencyKey {
  readonly caller: string;
  readonly mutation: string;
  /** 1 to 255 characters. */
  readonly key: string;
}

export interface IdempotencyRecord {
  readonly payloadHash: Buffer;
  /** The operation that began; null: a change that needed none. */
  readonly operationId: string | null;
  /** The tenant of a change that needed no operation. */
  readonly tenantId?: string | null;
  /** The batch that began. */
  readonly batchId?: string | null;
  /** The sealed one-time API key, so that a replay can show it. */
  readonly apiKeyEncrypted: string | null;
}

/** The living record of a key; null: not seen, or expired. */
export async function findIdempotencyRecord(
  control: Control,
  key: IdempotencyKey,
): Promise<IdempotencyRecord | null> {
  const row = (await table(control)
    .where({ ...key })
    .where('expires_at', '>', control.fn.now())
    .first({
      payloadHash: 'payload_hash',
      operationId: 'operation_id',
      tenantId: 'tenant_id',
      batchId: 'batch_id',
      apiKeyEncrypted: 'api_key_encrypted',
    })) as IdempotencyRecord | undefined;
  return row ?? null;
}

/**
 * Records a key in the reserving transaction. Of two requests at once, the second waits here for the
 * first to commit and then breaks `idempotency_records_pkey`. An expired record makes room.
 */
export async function insertIdempotencyRecord(
  trx: Control,
  key: IdempotencyKey,
  record: IdempotencyRecord & { readonly ttlHours: number },
): Promise<void> {
  await table(trx)
    .where({ ...key })
    .where('expires_at', '<=', trx.fn.now())
    .delete();
  await table(trx).insert({
    ...key,
    payload_hash: record.payloadHash,
    operation_id: record.operationId,
    tenant_id: record.tenantId ?? null,
    batch_id: record.batchId ?? null,
    api_key_encrypted: record.apiKeyEncrypted,
    expires_at: trx.raw("now() + ? * interval '1 hour'", [record.ttlHours]),
  });
}

/** Releases the keys of an operation that was undone: the retry starts anew. */
export async function releaseIdempotencyKeys(trx: Control, operationId: string): Promise<void> {
  await table(trx).where({ operation_id: operationId }).delete();
}

/** Releases the keys of a batch of which nothing came. */
export async function releaseBatchKeys(trx: Control, batchId: string): Promise<void> {
  await table(trx).where({ batch_id: batchId }).delete();
}

/** A sealed one-time API key of a tenant in a batch. */
export interface SealedApiKey {
  readonly tenantId: string;
  readonly apiKeyEncrypted: string;
}

/** Keeps a batch's API keys for as long as the record of its idempotency key lives. */
export async function insertBatchApiKeys(
  trx: Control,
  key: IdempotencyKey,
  apiKeys: readonly SealedApiKey[],
): Promise<void> {
  if (apiKeys.length === 0) return;
  await batchKeyTable(trx).insert(
    apiKeys.map(({ tenantId, apiKeyEncrypted }) => ({
      ...key,
      tenant_id: tenantId,
      api_key_encrypted: apiKeyEncrypted,
    })),
  );
}

/** The API keys that are kept with the record of an idempotency key. */
export async function listBatchApiKeys(
  control: Control,
  key: IdempotencyKey,
): Promise<SealedApiKey[]> {
  return (await batchKeyTable(control)
    .where({ ...key })
    .select({ tenantId: 'tenant_id', apiKeyEncrypted: 'api_key_encrypted' })) as SealedApiKey[];
}

/** Deletes expired records; returns how many. */
export async function purgeIdempotencyRecords(control: Control): Promise<number> {
  return await table(control).where('expires_at', '<=', control.fn.now()).delete();
}

function batchKeyTable(control: Control): Knex.QueryBuilder {
  return control.withSchema(controlSchema).from('batch_api_keys');
}

function table(control: Control): Knex.QueryBuilder {
  return control.withSchema(controlSchema).from('idempotency_records');
}
