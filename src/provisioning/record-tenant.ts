import { randomUUID } from 'node:crypto';
import type { Knex } from 'knex';
import { insertApiKey } from '../control/api-keys.ts';
import { appendAudit } from '../control/audit.ts';
import { insertIdempotencyRecord } from '../control/idempotency.ts';
import { insertOperation } from '../control/operations.ts';
import { countOnCluster, insertTenantDatabase, lockCluster } from '../control/tenant-databases.ts';
import {
  countTenants,
  insertTenant,
  lockTenantName,
  takenSlugs,
  tenantNameTaken,
} from '../control/tenants.ts';
import { generateApiKey, type GeneratedApiKey } from '../crypto/api-keys.ts';
import type { KeyRing } from '../crypto/envelope.ts';
import { failure, type Failure } from '../errors.ts';
import { generatePassword, scramVerifier } from '../postgres/scram.ts';
import { isolationOf } from './isolation/index.ts';
import { tenantRoles, withRandomEnding } from './names.ts';
import type { ClusterRoom } from './placement.ts';
import type { Reservation, Reserved, ReserveServices, ReserveSettings } from './reservation.ts';
import type { ClaimedStandby } from './standby-claims.ts';
import { operationSecretsPurpose, type OperationSecrets, type RunFindings } from './step.ts';

/** What the sealed copy of a new API key is bound to, beside the tenant. */
export const apiKeyPurpose = 'api-key';

/** Carries failures out of the transaction, which rolls back. */
export class Refused extends Error {
  readonly failures: readonly Failure[];

  constructor(...failures: Failure[]) {
    super('refused');
    this.failures = failures;
  }
}

/** Ends a transaction that found its cluster full. */
export class ClusterFull extends Error {}

export interface TenantRecord {
  readonly reservation: Reservation;
  readonly slug: string;
  /** Characters that a slug may have. */
  readonly slugRoom: number;
  /** Told what a claimed standby brings along, also when the transaction fails afterwards. */
  readonly findings: RunFindings;
}

/**
 * Everything that the reserving transaction records. What does not depend on an answer is sent without
 * waiting for the one before; PostgreSQL still does it in this order.
 *
 * @throws Refused; the error of a broken unique constraint
 */
export async function recordTenant(
  trx: Knex.Transaction,
  services: ReserveServices,
  { reservation, slug: wantedSlug, slugRoom, findings }: TenantRecord,
): Promise<Reserved> {
  const { command, partner, idempotency } = reservation;
  const { settings, keyRing, queue, standbys } = services;
  await refuseWhatIsTaken(trx, settings, reservation);
  await takeRoom(trx, reservation.cluster);
  const [slug, claimed] = await Promise.all([
    command.slug ?? freeSlug(trx, wantedSlug, slugRoom),
    standbys.claim(trx, reservation.cluster.name, command.isolation),
  ]);
  const plan = claimed === null ? freshPlan(keyRing) : planOf(claimed);
  if (claimed === null) {
    findings.verifier = scramVerifier(plan.secrets.password);
    findings.verifier.catch(() => undefined); // told to whoever uses it
  }
  const { tenantId, operationId, secrets } = plan;
  const names = isolationOf(command.isolation).names({
    tenantId,
    slug,
    naming: command.databaseNaming ?? 'TENANT_ID',
    schemaName: command.schemaName,
    settings,
  });
  if (claimed !== null) {
    findings.prepared = true;
    findings.migrationVersion = claimed.standby.migrationVersion;
    // Under way while the rest is recorded: a tenant waits for the slower of the two.
    const login = claimed.logIn(names);
    if (login !== null) findings.login = login;
  }
  const apiKey = reservation.apiKey ? newApiKey(settings, command.name) : null;

  const [tenant, database, operation] = await Promise.all([
    insertTenant(trx, {
      id: tenantId,
      partner,
      name: command.name,
      slug,
      environment: command.environment,
      domain: command.domain ?? null,
      description: command.description ?? null,
      email: command.email ?? null,
      phoneNumber: command.phoneNumber ?? null,
      industry: command.industry ?? null,
      settings: command.settings,
      isolation: command.isolation,
      deletionProtection: command.deletionProtection,
    }),
    insertTenantDatabase(trx, {
      tenantId,
      cluster: reservation.cluster.name,
      isolation: command.isolation,
      ...names,
      ownerRole: plan.ownerRole,
      loginRole: plan.loginRole,
    }),
    insertOperation(trx, {
      id: operationId,
      kind: 'CREATE',
      tenantId,
      partner,
      actor: reservation.actor,
      requestId: reservation.requestId,
      secretsEncrypted: plan.secretsEncrypted,
      deadlineSeconds: settings.operationTimeoutSeconds,
    }),
    apiKey === null
      ? null
      : insertApiKey(trx, {
          id: randomUUID(),
          tenantId,
          display: apiKey.display,
          lookup: apiKey.lookup,
          hash: apiKey.hash,
        }),
    idempotency === null
      ? null
      : insertIdempotencyRecord(trx, idempotency.key, {
          payloadHash: idempotency.payloadHash,
          operationId,
          apiKeyEncrypted:
            apiKey === null ? null : keyRing.seal(apiKey.key, apiKeyPurpose, tenantId),
          ttlHours: settings.idempotencyTtlHours,
        }),
    queue.enqueue(trx, operationId),
    appendAudit(trx, {
      actor: reservation.actor,
      partner,
      ipAddress: reservation.ipAddress,
      action: 'createTenant',
      tenantId,
      fromStatus: null,
      toStatus: 'PROVISIONING',
      outcome: 'ACCEPTED',
      requestId: reservation.requestId,
    }),
  ]);
  return { tenant, database, operation, secrets, apiKey: apiKey?.key ?? null, findings };
}

/** Ids, roles and secrets of a tenant in the making. */
interface Plan {
  readonly tenantId: string;
  readonly operationId: string;
  readonly ownerRole: string;
  readonly loginRole: string;
  readonly secrets: OperationSecrets;
  readonly secretsEncrypted: string;
}

function freshPlan(keyRing: KeyRing): Plan {
  const tenantId = randomUUID();
  const secrets: OperationSecrets = { password: generatePassword() };
  const roles = tenantRoles(tenantId, randomUUID());
  return {
    tenantId,
    operationId: randomUUID(),
    ownerRole: roles.owner,
    loginRole: roles.login,
    secrets,
    secretsEncrypted: keyRing.seal(JSON.stringify(secrets), operationSecretsPurpose, tenantId),
  };
}

function planOf({ standby, secrets }: ClaimedStandby): Plan {
  return {
    tenantId: standby.id,
    operationId: standby.operationId,
    ownerRole: standby.ownerRole,
    loginRole: standby.loginRole,
    secrets,
    secretsEncrypted: standby.secretsEncrypted,
  };
}

async function refuseWhatIsTaken(
  trx: Knex.Transaction,
  settings: ReserveSettings,
  { command, partner }: Reservation,
): Promise<void> {
  if (command.uniqueName) {
    await lockTenantName(trx, partner, command.name);
    if (await tenantNameTaken(trx, partner, command.name)) {
      throw new Refused(
        failure('TAKEN', `Tenant with name '${command.name}' already exists`, ['input', 'name']),
      );
    }
  }
  if (settings.maxTenantsPerPartner > 0) {
    await lockTenantName(trx, partner, '');
    if ((await countTenants(trx, partner)) >= settings.maxTenantsPerPartner) {
      const limit = String(settings.maxTenantsPerPartner);
      throw new Refused(
        failure('LIMIT_EXCEEDED', `This partner may have at most ${limit} tenants`),
      );
    }
  }
}

/** Counts under a lock that is held until the commit: the next one counts this tenant too. */
async function takeRoom(trx: Knex.Transaction, { name, maxTenants }: ClusterRoom): Promise<void> {
  if (maxTenants === null) return;
  await lockCluster(trx, name);
  if ((await countOnCluster(trx, name)) >= maxTenants) throw new ClusterFull('the cluster is full');
}

async function freeSlug(trx: Knex.Transaction, slug: string, room: number): Promise<string> {
  return (await takenSlugs(trx, [slug])).length === 0 ? slug : withRandomEnding(slug, room);
}

function newApiKey(settings: ReserveSettings, tenantName: string): GeneratedApiKey {
  return generateApiKey({
    prefix: settings.apiKeyPrefix,
    length: settings.apiKeyLength,
    tenantName,
  });
}
