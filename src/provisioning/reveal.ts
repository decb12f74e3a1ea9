import type { Knex } from 'knex';
import { appendAudit } from '../control/audit.ts';
import { sealedConnectionOf } from '../control/tenant-databases.ts';
import { lockTenant } from '../control/tenants.ts';
import type { KeyRing } from '../crypto/envelope.ts';
import { failure, type Failure } from '../errors.ts';
import { brokenConstraint } from '../postgres/error-codes.ts';
import { scopeOf } from './caller.ts';
import { findUse, idempotencyOf, recordUse, type Idempotency } from './idempotency.ts';
import { looksLikeUuid } from './names.ts';
import type { Request } from './request.ts';
import { connectionStringPurpose } from './steps/encrypt-credentials.ts';

/** A secret, for whoever asked and for nobody else: not for logs. */
export interface RevealOutcome {
  readonly connectionString: string | null;
  readonly failures: readonly Failure[];
}

/**
 * The connection string of an ACTIVE tenant. That somebody asked is recorded before it is told: an
 * answer without its row in the audit log cannot be.
 */
export type RevealTenantConnection = (
  request: Request,
  input: RevealInput,
) => Promise<RevealOutcome>;

export interface RevealInput {
  /** The tenant's. */
  readonly id: string;
  /** A retry with it is told again, and recorded again. */
  readonly idempotencyKey?: string | null | undefined;
}

interface RevealOptions {
  readonly control: Knex;
  readonly keyRing: KeyRing;
  readonly idempotencyTtlHours: number;
}

/** Builds `revealTenantConnection`. */
export function createReveal(options: RevealOptions): RevealTenantConnection {
  const { control } = options;
  return async function revealTenantConnection(request, input): Promise<RevealOutcome> {
    const { idempotencyKey, ...payload } = input;
    const keyed = idempotencyOf(request, 'revealTenantConnection', idempotencyKey ?? null, payload);
    if ('failures' in keyed) return refused(...keyed.failures);
    const { idempotency } = keyed;
    const found = await findUse(control, idempotency);
    if (found !== null && 'failures' in found) return refused(...found.failures);
    if (!looksLikeUuid(input.id)) return refused(notFound());
    try {
      return await control.transaction((trx) =>
        reveal(trx, options, request, input.id, found === null ? idempotency : null),
      );
    } catch (error) {
      if (brokenConstraint(error) !== 'idempotency_records_pkey') throw error;
      return await revealTenantConnection(request, input); // an equal request was faster
    }
  };
}

async function reveal(
  trx: Knex.Transaction,
  { idempotencyTtlHours, keyRing }: RevealOptions,
  request: Request,
  id: string,
  idempotency: Idempotency | null,
): Promise<RevealOutcome> {
  const tenant = await lockTenant(trx, scopeOf(request.caller), id);
  if (tenant === null || tenant.status === 'FAILED' || tenant.status === 'PURGED') {
    return refused(notFound());
  }
  const sealed = tenant.status === 'ACTIVE' ? await sealedConnectionOf(trx, id) : null;
  if (sealed === null) return refused(notActive(tenant.status));
  const connectionString = keyRing.open(sealed, connectionStringPurpose, id);
  if (idempotency !== null) await recordUse(trx, idempotency, id, idempotencyTtlHours);
  await appendAudit(trx, {
    actor: request.caller.subject,
    partner: tenant.partner,
    ipAddress: request.ipAddress,
    action: 'revealTenantConnection',
    tenantId: id,
    fromStatus: tenant.status,
    toStatus: tenant.status,
    outcome: 'SUCCEEDED',
    requestId: request.requestId,
  });
  return { connectionString, failures: [] };
}

function notFound(): Failure {
  return failure('NOT_FOUND', 'There is no tenant with this id', ['input', 'id']);
}

function notActive(status: string): Failure {
  const message = `A tenant that is ${status} lets nobody in: there is nothing to reveal`;
  return failure('INVALID_STATE', message, ['input', 'id']);
}

function refused(...failures: readonly Failure[]): RevealOutcome {
  return { connectionString: null, failures };
}
