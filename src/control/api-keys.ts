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

/** Records keys that have no effect until they are activated. */
export async function insertApiKeys(trx: Control, keys: readonly NewApiKey[]): Promise<void> {
  if (keys.length === 0) return;
  await table(trx)
    .insert(
      keys.map((key) => ({
        id: key.id,
        tenant_id: key.tenantId,
        display: key.display,
        lookup: key.lookup,
        hash: key.hash,
      })),
    )
    .options({ name: `insert_api_keys_${keys.length}` });
}

/** Takes the effect from all keys of these tenants at once. */
export async function deactivateApiKeys(trx: Control, tenantIds: readonly string[]): Promise<void> {
  await table(trx).whereIn('tenant_id', tenantIds).update({ activated_at: null });
}

/** Gives the waiting keys of these tenants their effect. */
export async function activateApiKeys(trx: Control, tenantIds: readonly string[]): Promise<void> {
  await table(trx)
    .whereRaw('tenant_id = ANY (CAST(? AS uuid[]))', [tenantIds as string[]])
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

/** A key with effect, of an active tenant, and what proves it. */
export interface UsableApiKey {
  readonly id: string;
  readonly tenantId: string;
  readonly partner: string;
  /** SHA-256 of the whole key. */
  readonly hash: Buffer;
  /** Whether its last use was noted longer than a minute ago. */
  readonly useIsDue: boolean;
}

/** The keys with effect that begin with these random characters: one, but for a rare coincidence. */
export async function findUsableApiKeys(control: Control, lookup: string): Promise<UsableApiKey[]> {
  return (await usable(control)
    .where('api_keys.lookup', lookup)
    .select({
      id: 'api_keys.id',
      tenantId: 'api_keys.tenant_id',
      partner: 'tenants.partner',
      hash: 'api_keys.hash',
      useIsDue: control.raw(
        "api_keys.last_used_at IS NULL OR api_keys.last_used_at < now() - interval '1 minute'",
      ),
    })
    .options({ name: 'find_usable_api_keys' })) as UsableApiKey[];
}

/** Of these keys, those with effect. */
export async function usableApiKeyIds(control: Control, ids: readonly string[]): Promise<string[]> {
  const rows = (await usable(control)
    .whereRaw('api_keys.id = ANY (?)', [ids as string[]])
    .select({ id: 'api_keys.id' })
    .options({ name: 'usable_api_key_ids' })) as { id: string }[];
  return rows.map(({ id }) => id);
}

/** Notes that a key was used just now. Rows that somebody has locked are left for the next time. */
export async function noteApiKeyUse(
  control: Control,
  { id, tenantId }: Pick<UsableApiKey, 'id' | 'tenantId'>,
): Promise<void> {
  await control.raw(
    `WITH key AS (
       UPDATE ${controlSchema}.api_keys SET last_used_at = now() WHERE id IN
         (SELECT id FROM ${controlSchema}.api_keys WHERE id = ? FOR UPDATE SKIP LOCKED))
     UPDATE ${controlSchema}.tenants SET last_activity_at = now() WHERE id IN
       (SELECT id FROM ${controlSchema}.tenants WHERE id = ? FOR NO KEY UPDATE SKIP LOCKED)`,
    [id, tenantId],
  );
}

/**
 * Lets the keys of a tenant that are in effect end after so many seconds, those that end sooner
 * excepted. Returns when the last one of them does; null: there was none.
 */
export async function expireApiKeys(
  trx: Control,
  tenantId: string,
  overlapSeconds: number,
): Promise<Date | null> {
  const rows = (await table(trx)
    .where({ tenant_id: tenantId })
    .whereNull('revoked_at')
    .whereRaw('(expires_at IS NULL OR expires_at > now())')
    .update({
      expires_at: trx.raw(
        "least(coalesce(expires_at, 'infinity'), now() + ? * interval '1 second')",
        [overlapSeconds],
      ),
    })
    .returning('expires_at')) as { expires_at: Date }[];
  const ends = rows.map((row) => row.expires_at.getTime());
  return ends.length === 0 ? null : new Date(Math.max(...ends));
}

/** Takes a key its effect, for good. UNKNOWN: the tenant has no such key. The tenant's row is locked. */
export async function revokeApiKey(
  trx: Control,
  tenantId: string,
  id: string,
): Promise<'DONE' | 'WAS_DONE' | 'UNKNOWN'> {
  const key = (await table(trx)
    .where({ tenant_id: tenantId, id })
    .whereNotNull('activated_at')
    .first({ revokedAt: 'revoked_at' })) as { revokedAt: Date | null } | undefined;
  if (key === undefined) return 'UNKNOWN';
  if (key.revokedAt !== null) return 'WAS_DONE';
  await table(trx).where({ id }).update({ revoked_at: trx.fn.now() });
  return 'DONE';
}

function usable(control: Control): Knex.QueryBuilder {
  return table(control)
    .join('tenants', 'tenants.id', 'api_keys.tenant_id')
    .where('tenants.status', 'ACTIVE')
    .whereNotNull('api_keys.activated_at')
    .whereNull('api_keys.revoked_at')
    .whereRaw('(api_keys.expires_at IS NULL OR api_keys.expires_at > now())');
}

function table(control: Control): Knex.QueryBuilder {
  return control.withSchema(controlSchema).from('api_keys');
}
