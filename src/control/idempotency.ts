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
    api_key_encrypted: record.apiKeyEncrypted,
    expires_at: trx.raw("now() + ? * interval '1 hour'", [record.ttlHours]),
  });
}

/** Releases the keys of an operation that was undone: the retry starts anew. */
export async function releaseIdempotencyKeys(trx: Control, operationId: string): Promise<void> {
  await table(trx).where({ operation_id: operationId }).delete();
}

/** Deletes expired records; returns how many. */
export async function purgeIdempotencyRecords(control: Control): Promise<number> {
  return await table(control).where('expires_at', '<=', control.fn.now()).delete();
}

function table(control: Control): Knex.QueryBuilder {
  return control.withSchema(controlSchema).from('idempotency_records');
}
