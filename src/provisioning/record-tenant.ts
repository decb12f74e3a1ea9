import { randomUUID } from 'node:crypto';
import type { Knex } from 'knex';
import { insertApiKeys } from '../control/api-keys.ts';
import { appendAudit, type AuditRecord } from '../control/audit.ts';
import { sentTogether } from '../control/database.ts';
import { insertIdempotencyRecord } from '../control/idempotency.ts';
import { insertOperations } from '../control/operations.ts';
import { countOnCluster, insertTenantDatabases, lockCluster } from '../control/tenant-databases.ts';
import {
  countTenants,
  insertTenants,
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
import { secondsUntil } from './schedule.ts';
import { taken } from './taken.ts';
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
  const { command, idempotency } = reservation;
  const { settings, keyRing, standbys } = services;
  await refuseWhatIsTaken(trx, settings, reservation);
  await takeRoom(trx, reservation.cluster);
  const [slug, claimed] = await Promise.all([
    command.slug ?? freeSlug(trx, wantedSlug, slugRoom),
    command.provisionAt === undefined
      ? standbys.claim(trx, reservation.cluster.name, command.isolation)
      : null,
  ]);
  const planned = planTenant(services, reservation, slug, claimed, findings);
  const until = secondsUntil(command.provisionAt);
  if (command.provisionAt !== undefined) {
    // Whoever begins it finds everything out anew.
  } else if (claimed === null) {
    findings.verifier = scramVerifier(planned.plan.secrets.password);
    findings.verifier.catch(() => undefined); // told to whoever uses it
  } else {
    // Under way while the rest is recorded: a tenant waits for the slower of the two.
    const login = planned.logIn?.() ?? null;
    if (login !== null) findings.login = login;
  }
  const { tenantId, operationId } = planned.plan;
  const [[reserved]] = await sentTogether([
    recordPlanned(trx, services, [planned], ([id = '']) =>
      command.provisionAt === undefined
        ? services.queue.enqueue(trx, id)
        : services.queue.enqueueWaiting(trx, [id], until + beginWithinSeconds),
    ),
    idempotency === null
      ? null
      : insertIdempotencyRecord(trx, idempotency.key, {
          payloadHash: idempotency.payloadHash,
          operationId,
          apiKeyEncrypted:
            planned.apiKey === null
              ? null
              : keyRing.seal(planned.apiKey.key, apiKeyPurpose, tenantId),
          // What is made later is asked for again later.
          ttlHours: settings.idempotencyTtlHours + Math.ceil(until / 3600),
        }),
  ]);
  if (reserved === undefined) throw new Error('the recorded tenant did not come back');
  return reserved;
}

// By then some instance has begun it; until it does, its job comes again and again.
const beginWithinSeconds = 60;

/** What a reservation comes to: ids, names, secrets and an API key, before anything is recorded. */
export interface PlannedTenant {
  readonly reservation: Reservation;
  readonly slug: string;
  readonly plan: Plan;
  readonly names: { readonly databaseName: string; readonly schemaName: string | null };
  readonly apiKey: GeneratedApiKey | null;
  readonly findings: RunFindings;
  readonly logIn: Reserved['logIn'];
  /** Its place in a batch. */
  readonly batch?: { readonly id: string; readonly index: number };
}

/** Plans a tenant: in the place of a standby that was claimed, or (null) in one of its own. */
export function planTenant(
  { keyRing, settings }: Pick<ReserveServices, 'keyRing' | 'settings'>,
  reservation: Reservation,
  slug: string,
  claimed: ClaimedStandby | null,
  findings: RunFindings,
): PlannedTenant {
  const { command } = reservation;
  const plan = claimed === null ? freshPlan(keyRing) : planOf(claimed);
  const names = isolationOf(command.isolation).names({
    tenantId: plan.tenantId,
    slug,
    naming: command.databaseNaming ?? 'TENANT_ID',
    schemaName: command.schemaName,
    settings,
  });
  if (claimed !== null) {
    findings.prepared = true;
    findings.migrationVersion = claimed.standby.migrationVersion;
  }
  const apiKey = reservation.apiKey ? newApiKey(settings, command.name) : null;
  return {
    reservation,
    slug,
    plan,
    names,
    apiKey,
    findings,
    logIn: claimed === null ? null : () => claimed.logIn(names),
  };
}

/**
 * Inserts tenants with their databases, operations, API keys and audit rows: a statement for each kind
 * of row, however many tenants there are.
 *
 * @param enqueue inserts the jobs of these operations
 * @throws the error of a broken unique constraint
 */
export async function recordPlanned(
  trx: Knex.Transaction,
  { settings }: Pick<ReserveServices, 'settings'>,
  planned: readonly PlannedTenant[],
  enqueue: (operationIds: readonly string[]) => Promise<void>,
): Promise<Reserved[]> {
  const [tenants, databases, operations] = await sentTogether([
    insertTenants(
      trx,
      planned.map(({ plan, slug, reservation: { command, partner } }) => ({
        id: plan.tenantId,
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
        provisionAt: command.provisionAt ?? null,
      })),
    ),
    insertTenantDatabases(
      trx,
      planned.map(({ names, plan, reservation: { cluster, command } }) => ({
        tenantId: plan.tenantId,
        cluster: cluster.name,
        isolation: command.isolation,
        ...names,
        ownerRole: plan.ownerRole,
        loginRole: plan.loginRole,
      })),
    ),
    insertOperations(
      trx,
      planned.map(({ batch, plan, reservation }) => ({
        id: plan.operationId,
        kind: 'CREATE',
        tenantId: plan.tenantId,
        partner: reservation.partner,
        actor: reservation.actor,
        requestId: reservation.requestId,
        secretsEncrypted: plan.secretsEncrypted,
        scheduled: reservation.command.provisionAt !== undefined,
        deadlineSeconds:
          secondsUntil(reservation.command.provisionAt) + settings.operationTimeoutSeconds,
        ...(batch === undefined ? {} : { batch }),
      })),
    ),
    insertApiKeys(
      trx,
      planned.flatMap(({ apiKey, plan: { tenantId } }) =>
        apiKey === null
          ? []
          : [
              {
                id: randomUUID(),
                tenantId,
                display: apiKey.display,
                lookup: apiKey.lookup,
                hash: apiKey.hash,
              },
            ],
      ),
    ),
    enqueue(planned.map(({ plan }) => plan.operationId)),
    appendAudit(
      trx,
      ...planned.map(({ plan: { tenantId }, reservation }): AuditRecord => ({
        actor: reservation.actor,
        partner: reservation.partner,
        ipAddress: reservation.ipAddress,
        action: 'createTenant',
        tenantId,
        fromStatus: null,
        toStatus: reservation.command.provisionAt === undefined ? 'PROVISIONING' : 'SCHEDULED',
        outcome: 'ACCEPTED',
        requestId: reservation.requestId,
      })),
    ),
  ]);
  return planned.map(({ apiKey, findings, logIn, plan }, place) => {
    const tenant = tenants.get(plan.tenantId);
    const operation = operations.get(plan.operationId);
    const database = databases[place];
    if (tenant === undefined || operation === undefined || database === undefined) {
      throw new Error('a recorded tenant did not come back');
    }
    const { secrets } = plan;
    return {
      tenant,
      database,
      operation,
      secrets,
      apiKey: apiKey?.key ?? null,
      findings,
      logIn,
    };
  });
}

/** Ids, roles and secrets of a tenant in the making. */
export interface Plan {
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
      throw new Refused(taken.name(command.name));
    }
  }
  if (settings.maxTenantsPerPartner > 0) {
    await lockTenantName(trx, partner, '');
    if ((await countTenants(trx, partner)) >= settings.maxTenantsPerPartner) {
      throw new Refused(partnerFull(settings));
    }
  }
}

/** The failure of one tenant too many. */
export function partnerFull({ maxTenantsPerPartner }: ReserveSettings): Failure {
  const message = `This partner may have at most ${maxTenantsPerPartner} tenants`;
  return failure('LIMIT_EXCEEDED', message);
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
