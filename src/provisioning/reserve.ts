import { randomUUID } from 'node:crypto';
import type { Knex } from 'knex';
import { insertApiKey } from '../control/api-keys.ts';
import { appendAudit } from '../control/audit.ts';
import {
  findIdempotencyRecord,
  insertIdempotencyRecord,
  type IdempotencyKey,
} from '../control/idempotency.ts';
import { insertOperation, type Operation } from '../control/operations.ts';
import {
  countOnCluster,
  insertTenantDatabase,
  lockCluster,
  type TenantDatabase,
} from '../control/tenant-databases.ts';
import {
  countTenants,
  insertTenant,
  lockTenantName,
  takenSlugs,
  tenantNameTaken,
  type Tenant,
} from '../control/tenants.ts';
import { generateApiKey } from '../crypto/api-keys.ts';
import type { KeyRing } from '../crypto/envelope.ts';
import { failure, type Failure } from '../errors.ts';
import type { OperationQueue } from '../jobs/operation-queue.ts';
import { brokenConstraint } from '../postgres/error-codes.ts';
import { generatePassword } from '../postgres/scram.ts';
import type { CreateTenantCommand } from './commands.ts';
import { isolationOf } from './isolation/index.ts';
import {
  schemaNameFromSlug,
  slugFromName,
  slugMaxLength,
  slugMaxLengthBehind,
  tenantRoles,
  withRandomEnding,
} from './names.ts';
import type { NameSettings } from './isolation/isolation.ts';
import type { ClusterRoom } from './placement.ts';
import { operationSecretsPurpose } from './runner.ts';
import type { OperationSecrets } from './step.ts';

export interface ReserveServices {
  readonly control: Knex;
  readonly keyRing: KeyRing;
  readonly queue: OperationQueue;
  readonly settings: ReserveSettings;
}

export interface ReserveSettings extends NameSettings {
  /** Deadline of one operation, seconds. */
  readonly operationTimeoutSeconds: number;
  readonly idempotencyTtlHours: number;
  /** 0: no limit. */
  readonly maxTenantsPerPartner: number;
  readonly apiKeyPrefix: string;
  readonly apiKeyLength: number;
}

/** A checked request for a tenant, with everything the transaction records. */
export interface Reservation {
  readonly command: CreateTenantCommand;
  readonly partner: string;
  readonly cluster: ClusterRoom;
  readonly actor: string;
  readonly ipAddress: string | null;
  readonly requestId: string;
  /** Whether to make an API key. */
  readonly apiKey: boolean;
  readonly idempotency: { readonly key: IdempotencyKey; readonly payloadHash: Buffer } | null;
}

export interface Reserved {
  readonly tenant: Tenant;
  readonly database: TenantDatabase;
  readonly operation: Operation;
  readonly secrets: OperationSecrets;
  /** Without effect until the tenant is active. */
  readonly apiKey: string | null;
}

export type ReserveOutcome =
  | { readonly reserved: Reserved }
  | { readonly failures: readonly Failure[] }
  /** The same idempotency key was recorded by another request meanwhile. */
  | { readonly replay: true }
  /** The cluster has no room: nothing was recorded, another one may have. */
  | { readonly full: true };

/** What the sealed copy of a new API key is bound to, beside the tenant. */
export const apiKeyPurpose = 'api-key';

// A derived slug is looked up first and gets a random ending when taken; more than a few races for
// one of these are no accident.
const derivedSlugTries = 5;

/**
 * Records a new tenant, its database's names, its operation and its job in ONE transaction. Unique
 * constraints decide races: the loser gets TAKEN, and nothing is left of it.
 */
export async function reserveTenant(
  services: ReserveServices,
  reservation: Reservation,
): Promise<ReserveOutcome> {
  const { isolation, name, schemaName, slug: given } = reservation.command;
  const { schemaPrefix } = services.settings;
  // A derived slug is made to fit into all names that are made from it.
  const generatesSchema = isolation === 'SCHEMA' && schemaName === undefined;
  const room = generatesSchema ? slugMaxLengthBehind(schemaPrefix) : slugMaxLength;
  const retried = generatesSchema
    ? ['tenants_slug_taken', 'tenant_databases_schema_taken']
    : ['tenants_slug_taken'];
  for (let attempt = 1; ; attempt += 1) {
    const derived = given ?? slugFromName(name, room);
    const slug = given ?? (attempt === 1 ? derived : withRandomEnding(derived, room));
    try {
      return await services.control.transaction((trx) =>
        record(trx, services, reservation, slug, room),
      );
    } catch (error) {
      if (error instanceof ClusterFull) {
        return refusedOrReplayed(services, reservation, { full: true });
      }
      if (error instanceof Refused) {
        return refusedOrReplayed(services, reservation, { failures: error.failures });
      }
      const constraint = brokenConstraint(error);
      if (constraint === 'idempotency_records_pkey') return { replay: true };
      if (
        constraint !== undefined &&
        retried.includes(constraint) &&
        given === undefined &&
        attempt < derivedSlugTries
      ) {
        continue;
      }
      const taken =
        constraint === undefined ? undefined : takenBy(constraint, slug, reservation, schemaPrefix);
      if (taken === undefined) throw error;
      return refusedOrReplayed(services, reservation, { failures: [taken] });
    }
  }
}

/** What is taken may have been taken by this very request, sent twice at once: then it is a replay. */
async function refusedOrReplayed(
  { control }: ReserveServices,
  { idempotency }: Reservation,
  refusal: ReserveOutcome,
): Promise<ReserveOutcome> {
  if (idempotency === null) return refusal;
  const recorded = await findIdempotencyRecord(control, idempotency.key);
  return recorded === null ? refusal : { replay: true };
}

/** Ends a transaction that found its cluster full. */
class ClusterFull extends Error {}

/** Carries failures out of the transaction, which rolls back. */
class Refused extends Error {
  readonly failures: readonly Failure[];

  constructor(...failures: Failure[]) {
    super('refused');
    this.failures = failures;
  }
}

async function record(
  trx: Knex.Transaction,
  services: ReserveServices,
  reservation: Reservation,
  wantedSlug: string,
  slugRoom: number,
): Promise<ReserveOutcome> {
  const { command, partner, idempotency } = reservation;
  const { settings, keyRing } = services;
  await refuseWhatIsTaken(trx, settings, reservation);
  await takeRoom(trx, reservation.cluster);
  const slug = command.slug ?? (await freeSlug(trx, wantedSlug, slugRoom));
  const tenantId = randomUUID();
  const operationId = randomUUID();
  const secrets: OperationSecrets = { password: generatePassword() };
  const roles = tenantRoles(tenantId, randomUUID());
  const names = isolationOf(command.isolation).names({
    tenantId,
    slug,
    naming: command.databaseNaming ?? 'TENANT_ID',
    schemaName: command.schemaName,
    settings,
  });

  const tenant = await insertTenant(trx, {
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
  });
  const database = await insertTenantDatabase(trx, {
    tenantId,
    cluster: reservation.cluster.name,
    isolation: command.isolation,
    ...names,
    ownerRole: roles.owner,
    loginRole: roles.login,
  });
  const operation = await insertOperation(trx, {
    id: operationId,
    kind: 'CREATE',
    tenantId,
    partner,
    actor: reservation.actor,
    requestId: reservation.requestId,
    secretsEncrypted: keyRing.seal(JSON.stringify(secrets), operationSecretsPurpose, tenantId),
    deadlineSeconds: settings.operationTimeoutSeconds,
  });
  const apiKey = reservation.apiKey ? await makeApiKey(trx, settings, tenant) : null;
  await services.queue.enqueue(trx, operationId);
  if (idempotency !== null) {
    await insertIdempotencyRecord(trx, idempotency.key, {
      payloadHash: idempotency.payloadHash,
      operationId,
      apiKeyEncrypted: apiKey === null ? null : keyRing.seal(apiKey, apiKeyPurpose, tenantId),
      ttlHours: settings.idempotencyTtlHours,
    });
  }
  await appendAudit(trx, {
    actor: reservation.actor,
    partner,
    ipAddress: reservation.ipAddress,
    action: 'createTenant',
    tenantId,
    fromStatus: null,
    toStatus: 'PROVISIONING',
    outcome: 'ACCEPTED',
    requestId: reservation.requestId,
  });
  return { reserved: { tenant, database, operation, secrets, apiKey } };
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

async function makeApiKey(
  trx: Knex.Transaction,
  settings: ReserveSettings,
  tenant: Tenant,
): Promise<string> {
  const generated = generateApiKey({
    prefix: settings.apiKeyPrefix,
    length: settings.apiKeyLength,
    tenantName: tenant.name,
  });
  await insertApiKey(trx, {
    id: randomUUID(),
    tenantId: tenant.id,
    display: generated.display,
    lookup: generated.lookup,
    hash: generated.hash,
  });
  return generated.key;
}

/** What a broken constraint means to the caller; undefined: nothing he can do something about. */
function takenBy(
  constraint: string,
  slug: string,
  { command }: Reservation,
  schemaPrefix: string,
): Failure | undefined {
  switch (constraint) {
    case 'tenants_slug_taken':
    case 'tenant_databases_name_taken':
      return failure('TAKEN', `Tenant with slug '${slug}' already exists`, ['input', 'slug']);
    case 'tenants_domain_taken':
      return failure('TAKEN', `Domain already exists: ${command.domain ?? ''}`, [
        'input',
        'domain',
      ]);
    case 'tenant_databases_schema_taken': {
      const name = command.schemaName ?? schemaNameFromSlug(schemaPrefix, slug);
      return failure('TAKEN', `Schema already exists: ${name}`, ['input', 'schemaName']);
    }
    default:
      return undefined;
  }
}
