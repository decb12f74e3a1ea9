import { randomUUID } from 'node:crypto';
import type { Knex } from 'knex';
import {
  activateApiKeys,
  expireApiKeys,
  insertApiKeys,
  listApiKeys,
  revokeApiKey,
} from '../control/api-keys.ts';
import { appendAudit } from '../control/audit.ts';
import { findIdempotencyRecord, insertIdempotencyRecord } from '../control/idempotency.ts';
import { findTenant, lockTenant, type Tenant } from '../control/tenants.ts';
import { generateApiKey } from '../crypto/api-keys.ts';
import type { KeyRing } from '../crypto/envelope.ts';
import { failure, type Failure } from '../errors.ts';
import { brokenConstraint } from '../postgres/error-codes.ts';
import { scopeOf } from './caller.ts';
import {
  findUse,
  idempotencyMismatch,
  idempotencyOf,
  recordUse,
  type Idempotency,
} from './idempotency.ts';
import { looksLikeUuid } from './names.ts';
import type { Request } from './request.ts';
import { apiKeyPurpose } from './record-tenant.ts';

export interface RotateApiKeyInput {
  /** The tenant's. */
  readonly id: string;
  readonly idempotencyKey?: string | null | undefined;
}

export interface RotateApiKeyOutcome {
  readonly tenant: Tenant | null;
  /** The new one, shown once. */
  readonly apiKey: string | null;
  /** When the last of the earlier keys stops working; null: there is none that works. */
  readonly previousKeyExpiresAt: Date | null;
  readonly failures: readonly Failure[];
}

export interface RevokeApiKeyInput {
  /** The tenant's. */
  readonly id: string;
  readonly apiKeyId: string;
  readonly idempotencyKey?: string | null | undefined;
}

export interface RevokeApiKeyOutcome {
  readonly tenant: Tenant | null;
  readonly failures: readonly Failure[];
}

/** What can be done to a tenant's API keys. */
export interface ApiKeys {
  /** Makes a new key. Those in effect work on for the time of overlap, and no longer. */
  rotateTenantApiKey(request: Request, input: RotateApiKeyInput): Promise<RotateApiKeyOutcome>;
  /** Ends one key at once, wherever it is in use. Done twice, the second time changes nothing. */
  revokeTenantApiKey(request: Request, input: RevokeApiKeyInput): Promise<RevokeApiKeyOutcome>;
}

export interface ApiKeysOptions {
  readonly control: Knex;
  readonly keyRing: KeyRing;
  readonly apiKeyPrefix: string;
  readonly apiKeyLength: number;
  readonly apiKeyOverlapSeconds: number;
  readonly idempotencyTtlHours: number;
}

/** Builds what is done to tenants' API keys. */
export function createApiKeys(options: ApiKeysOptions): ApiKeys {
  const { control } = options;

  async function rotateTenantApiKey(
    request: Request,
    input: RotateApiKeyInput,
  ): Promise<RotateApiKeyOutcome> {
    const { id, idempotencyKey } = input;
    const keyed = idempotencyOf(request, 'rotateTenantApiKey', idempotencyKey ?? null, { id });
    if ('failures' in keyed) return notRotated(...keyed.failures);
    const { idempotency } = keyed;
    const replayed = await replay(options, request, idempotency);
    if (replayed !== null) return replayed;
    if (!looksLikeUuid(id)) return notRotated(notFound());
    try {
      return await control.transaction((trx) => rotate(trx, options, request, id, idempotency));
    } catch (error) {
      if (brokenConstraint(error) !== 'idempotency_records_pkey') throw error;
      // An equal request was faster: its answer is this one's too.
      return (
        (await replay(options, request, idempotency)) ?? (await rotateTenantApiKey(request, input))
      );
    }
  }

  async function revokeTenantApiKey(
    request: Request,
    input: RevokeApiKeyInput,
  ): Promise<RevokeApiKeyOutcome> {
    const { idempotencyKey, ...payload } = input;
    const keyed = idempotencyOf(request, 'revokeTenantApiKey', idempotencyKey ?? null, payload);
    if ('failures' in keyed) return notRevoked(...keyed.failures);
    const { idempotency } = keyed;
    const found = await findUse(control, idempotency);
    if (found !== null && 'failures' in found) return notRevoked(...found.failures);
    if (!looksLikeUuid(input.id)) return notRevoked(notFound());
    try {
      // Done again, it changes nothing: a replay needs no answer of its own.
      return await control.transaction((trx) =>
        revoke(trx, options, request, input, found === null ? idempotency : null),
      );
    } catch (error) {
      if (brokenConstraint(error) !== 'idempotency_records_pkey') throw error;
      return await revokeTenantApiKey(request, input); // an equal request was faster
    }
  }

  return { rotateTenantApiKey, revokeTenantApiKey };
}

async function rotate(
  trx: Knex.Transaction,
  options: ApiKeysOptions,
  request: Request,
  tenantId: string,
  idempotency: Idempotency | null,
): Promise<RotateApiKeyOutcome> {
  const tenant = await lockTenant(trx, scopeOf(request.caller), tenantId);
  if (tenant === null || isGone(tenant)) return notRotated(notFound());
  if (tenant.status !== 'ACTIVE' && tenant.status !== 'SUSPENDED') {
    const message = `The API key of a tenant that is ${tenant.status} cannot be rotated`;
    return notRotated(failure('INVALID_STATE', message, idPath));
  }
  const previous = await expireApiKeys(trx, tenantId, options.apiKeyOverlapSeconds);
  const { key, display, lookup, hash } = generateApiKey({
    prefix: options.apiKeyPrefix,
    length: options.apiKeyLength,
    tenantName: tenant.name,
  });
  const apiKeyId = randomUUID();
  await insertApiKeys(trx, [{ id: apiKeyId, tenantId, display, lookup, hash }]);
  await activateApiKeys(trx, [tenantId]);
  if (idempotency !== null) {
    await insertIdempotencyRecord(trx, idempotency.key, {
      payloadHash: idempotency.payloadHash,
      operationId: null,
      tenantId,
      apiKeyEncrypted: options.keyRing.seal(key, apiKeyPurpose, tenantId),
      ttlHours: options.idempotencyTtlHours,
    });
  }
  await audit(trx, request, tenant, 'rotateTenantApiKey', apiKeyId);
  return { tenant, apiKey: key, previousKeyExpiresAt: previous, failures: [] };
}

async function revoke(
  trx: Knex.Transaction,
  { idempotencyTtlHours }: ApiKeysOptions,
  request: Request,
  { apiKeyId, id: tenantId }: RevokeApiKeyInput,
  idempotency: Idempotency | null,
): Promise<RevokeApiKeyOutcome> {
  const tenant = await lockTenant(trx, scopeOf(request.caller), tenantId);
  if (tenant === null || isGone(tenant)) return notRevoked(notFound());
  const revoked = looksLikeUuid(apiKeyId) ? await revokeApiKey(trx, tenantId, apiKeyId) : 'UNKNOWN';
  if (revoked === 'UNKNOWN') {
    const message = 'This tenant has no API key with this id';
    return notRevoked(failure('NOT_FOUND', message, ['input', 'apiKeyId']));
  }
  if (idempotency !== null) await recordUse(trx, idempotency, tenantId, idempotencyTtlHours);
  if (revoked === 'DONE') await audit(trx, request, tenant, 'revokeTenantApiKey', apiKeyId);
  return { tenant, failures: [] };
}

/** The answer of an earlier request with this key, as long as its record lives; null: there was none. */
async function replay(
  { control, keyRing }: ApiKeysOptions,
  { caller }: Request,
  idempotency: Idempotency | null,
): Promise<RotateApiKeyOutcome | null> {
  if (idempotency === null) return null;
  const found = await findIdempotencyRecord(control, idempotency.key);
  if (found === null) return null;
  if (!found.payloadHash.equals(idempotency.payloadHash)) return notRotated(idempotencyMismatch());
  const { tenantId, apiKeyEncrypted } = found;
  if (tenantId == null || apiKeyEncrypted === null) {
    throw new Error('the record of a rotation lacks its tenant or its key');
  }
  const tenant = await findTenant(control, scopeOf(caller), { id: tenantId });
  if (tenant === null) return notRotated(notFound());
  const ends = (await listApiKeys(control, [tenantId])).flatMap(({ expiresAt, revokedAt }) =>
    expiresAt === null || revokedAt !== null ? [] : [expiresAt.getTime()],
  );
  return {
    tenant,
    apiKey: keyRing.open(apiKeyEncrypted, apiKeyPurpose, tenantId),
    previousKeyExpiresAt: ends.length === 0 ? null : new Date(Math.max(...ends)),
    failures: [],
  };
}

function audit(
  trx: Knex.Transaction,
  { caller, ipAddress, requestId }: Request,
  tenant: Tenant,
  action: string,
  apiKeyId: string,
): Promise<void> {
  return appendAudit(trx, {
    actor: caller.subject,
    partner: tenant.partner,
    ipAddress,
    action,
    tenantId: tenant.id,
    fromStatus: tenant.status,
    toStatus: tenant.status,
    outcome: 'SUCCEEDED',
    requestId,
    details: { apiKeyId },
  });
}

const idPath = ['input', 'id'] as const;

function isGone({ status }: Tenant): boolean {
  return status === 'FAILED' || status === 'PURGED';
}

function notFound(): Failure {
  return failure('NOT_FOUND', 'There is no tenant with this id', idPath);
}

function notRotated(...failures: readonly Failure[]): RotateApiKeyOutcome {
  return { tenant: null, apiKey: null, previousKeyExpiresAt: null, failures };
}

function notRevoked(...failures: readonly Failure[]): RevokeApiKeyOutcome {
  return { tenant: null, failures };
}
