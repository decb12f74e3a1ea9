import type { Knex } from 'knex';
import { controlSchema, type Control } from './database.ts';

/** What may be told of an API key; the key itself is shown once and never stored. */
export interface ApiKey {
  readonly id: string;
  readonly tenantId: string;
  /** Its readable beginning. */
  readonly prefix: string;
  readonly createdAt: Date;
  readonly lastUsedAt: Date | null;
  readonly expiresAt: Date | null;
  readonly revokedAt: Date | null;
}

export interface NewApiKey {
  readonly id: string;
  readonly tenantId: string;
  readonly display: string;
  /** The first 12 random characters. */
  readonly lookup: string;
  /** SHA-256 of the whole key. */
  readonly hash: Buffer;
}

/** Records a key that has no effect until it is activated. */
export async function insertApiKey(trx: Control, key: NewApiKey): Promise<void> {
  await table(trx)
    .insert({
      id: key.id,
      tenant_id: key.tenantId,
      display: key.display,
      lookup: key.lookup,
      hash: key.hash,
    })
    .options({ name: 'insert_api_key' });
}

/** Gives a tenant's waiting keys their effect. */
export async function activateApiKeys(trx: Control, tenantId: string): Promise<void> {
  await table(trx)
    .where({ tenant_id: tenantId })
    .whereNull('activated_at')
    .update({ activated_at: trx.fn.now() })
    .options({ name: 'activate_api_keys' });
}

/** Removes the keys of a tenant that never came to be. */
export async function deleteApiKeys(trx: Control, tenantId: string): Promise<void> {
  await table(trx).where({ tenant_id: tenantId }).delete();
}

/** The keys of these tenants that have (or had) effect, oldest first. */
export async function listApiKeys(
  control: Control,
  tenantIds: readonly string[],
): Promise<ApiKey[]> {
  return (await table(control)
    .whereIn('tenant_id', tenantIds)
    .whereNotNull('activated_at')
    .orderBy(['created_at', 'id'])
    .select({
      id: 'id',
      tenantId: 'tenant_id',
      prefix: 'display',
      createdAt: 'created_at',
      lastUsedAt: 'last_used_at',
      expiresAt: 'expires_at',
      revokedAt: 'revoked_at',
    })) as ApiKey[];
}

function table(control: Control): Knex.QueryBuilder {
  return control.withSchema(controlSchema).from('api_keys');
}
