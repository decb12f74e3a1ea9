import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  deleteStandby,
  insertStandby,
  readyStandby,
  withdrawStandby,
  type Standby,
  type StandbyPool,
} from '../control/standbys.ts';
import type { Cluster } from '../postgres/cluster.ts';
import { countSessions } from '../postgres/databases.ts';
import { generatePassword } from '../postgres/scram.ts';
import { isolationOf } from './isolation/index.ts';
import { tenantRoles } from './names.ts';
import { openSecrets, recipeHash } from './standby-claims.ts';
import { operationSecretsPurpose, type PlaceContext, type StepServices } from './step.ts';
import { verifyPlace } from './steps/verify-connection.ts';
import { dropTenantRoles, makeTenantRoles } from './tenant-roles.ts';

// The login that verified it is gone soon after: a database with a session cannot be renamed.
const lastSessionMs = { poll: 20, max: 5_000 } as const;

/**
 * Makes a standby: recorded first, then made and verified as a tenant's roles and place are. One that
 * cannot be made is dropped again.
 *
 * @param signal gives up at its abort
 * @throws whatever kept it from being made
 */
export async function buildStandby(
  services: StepServices,
  cluster: Cluster,
  isolation: StandbyPool['isolation'],
  signal: AbortSignal,
): Promise<void> {
  const { control, keyRing } = services;
  const id = randomUUID();
  const roles = tenantRoles(id, randomUUID());
  const standby = {
    id,
    operationId: randomUUID(),
    cluster: cluster.name,
    isolation,
    ...isolationOf(isolation).standbyNames({ tenantId: id, settings: services.settings }),
    ownerRole: roles.owner,
    loginRole: roles.login,
    secretsEncrypted: keyRing.seal(
      JSON.stringify({ password: generatePassword() }),
      operationSecretsPurpose,
      id,
    ),
    recipeHash: recipeHash(services),
  };
  await insertStandby(control, standby);
  await services.failpoints.reach('standby:recorded');
  await prepare(services, cluster, { ...standby, migrationVersion: null }, signal);
}

/** Brings a standby of an older recipe up to date. Somebody who claims it meanwhile has it. */
export async function refreshStandby(
  services: StepServices,
  cluster: Cluster,
  standby: Standby,
  signal: AbortSignal,
): Promise<void> {
  if (!(await withdrawStandby(services.control, standby.id, 'REFRESHING'))) return;
  await prepare(services, cluster, standby, signal);
}

/** Drops a standby that nobody may claim any more, and forgets it. */
export async function dropStandby(
  services: StepServices,
  cluster: Cluster,
  standby: Standby | Omit<Standby, 'status'>,
): Promise<void> {
  const context = placeOf(services, cluster, standby, new AbortController().signal);
  await isolationOf(standby.isolation).drop(context);
  await dropTenantRoles(context);
  await deleteStandby(services.control, standby.id);
}

async function prepare(
  services: StepServices,
  cluster: Cluster,
  standby: Omit<Standby, 'status'>,
  signal: AbortSignal,
): Promise<void> {
  const context = placeOf(services, cluster, standby, signal);
  const isolation = isolationOf(standby.isolation);
  try {
    await makeTenantRoles(context);
    await isolation.create(context);
    await isolation.migrate(context);
    await verifyPlace(context);
    if (standby.isolation === 'DATABASE') await untilAlone(cluster, standby.databaseName, signal);
    await services.failpoints.reach('standby:made');
    const migrationVersion = context.findings.migrationVersion ?? null;
    const ready = { id: standby.id, recipeHash: recipeHash(services), migrationVersion };
    if (!(await readyStandby(services.control, ready))) {
      throw new Error('the standby was given up on by another instance');
    }
  } catch (error) {
    context.findings.login?.discard();
    await dropStandby(services, cluster, standby).catch(() => undefined); // whoever comes next does
    throw error;
  }
}

/** What is made for a standby is made as for the tenant and the operation that will take it. */
function placeOf(
  services: StepServices,
  cluster: Cluster,
  standby: Omit<Standby, 'status'>,
  signal: AbortSignal,
): PlaceContext {
  return {
    operation: { id: standby.operationId },
    tenant: { id: standby.id },
    database: { ...standby, tenantId: standby.id, status: 'PENDING', checkedAt: null },
    secrets: openSecrets(services.keyRing, standby.secretsEncrypted, standby.id),
    cluster,
    services,
    findings: {},
    signal,
  };
}

async function untilAlone(cluster: Cluster, database: string, signal: AbortSignal): Promise<void> {
  const giveUpAt = Date.now() + lastSessionMs.max;
  while ((await cluster.admin((client) => countSessions(client, database), signal)) > 0) {
    if (Date.now() > giveUpAt) throw new Error('a session stays in the standby');
    await sleep(lastSessionMs.poll, undefined, { signal });
  }
}
