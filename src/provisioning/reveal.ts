import type { Knex } from 'knex';
import { appendAudit } from '../control/audit.ts';
import { sealedConnectionOf } from '../control/tenant-databases.ts';
import { lockTenant } from '../control/tenants.ts';
import type { KeyRing } from '../crypto/envelope.ts';
import { failure, type Failure } from '../errors.ts';
import { scopeOf } from './caller.ts';
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
  input: { readonly id: string },
) => Promise<RevealOutcome>;

/** Builds `revealTenantConnection`. */
export function createReveal({
  control,
  keyRing,
}: {
  readonly control: Knex;
  readonly keyRing: KeyRing;
}): RevealTenantConnection {
  return async (request, { id }) => {
    if (!looksLikeUuid(id)) return refused(notFound());
    return control.transaction(async (trx) => {
      const tenant = await lockTenant(trx, scopeOf(request.caller), id);
      if (tenant === null || tenant.status === 'FAILED' || tenant.status === 'PURGED') {
        return refused(notFound());
      }
      const sealed = tenant.status === 'ACTIVE' ? await sealedConnectionOf(trx, id) : null;
      if (sealed === null) return refused(notActive(tenant.status));
      const connectionString = keyRing.open(sealed, connectionStringPurpose, id);
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
    });
  };
}

function notFound(): Failure {
  return failure('NOT_FOUND', 'There is no tenant with this id', ['input', 'id']);
}

function notActive(status: string): Failure {
  const message = `A tenant that is ${status} lets nobody in: there is nothing to reveal`;
  return failure('INVALID_STATE', message, ['input', 'id']);
}

function refused(problem: Failure): RevealOutcome {
  return { connectionString: null, failures: [problem] };
}
