import type { Logger } from 'pino';
import { listServiceUses } from '../control/service-sessions.ts';
import { replaceDrift, type Drift } from '../control/drift.ts';
import {
  findRemains,
  listRegistered,
  type Registered,
  type Remains,
} from '../control/registered.ts';
import type { Cluster } from '../postgres/cluster.ts';
import { dropDatabase } from '../postgres/databases.ts';
import { listDatabases, listRoles, listSchemas, type SchemaEntry } from '../postgres/inventory.ts';
import { newestMigration } from '../postgres/ledger.ts';
import { describeHolders } from '../postgres/role-holders.ts';
import { endClosedSessions } from './closed-logins.ts';
import { compare, type ClusterInventory, type Comparison } from './drift.ts';
import { isolationOf } from './isolation/index.ts';
import { printable } from '../postgres/printable.ts';
import { servicePlaceOf } from './service-place.ts';
import { markerPrefix, readMarker, tenantLock } from './names.ts';
import { tidyGroupRoles } from './group-role.ts';
import { unblocked } from './unblocked.ts';
import { upgradeRoles } from './role-upgrade.ts';
import type { PlaceContext, StepServices } from './step.ts';
import { removeTenantRoles, rolesOf } from './tenant-roles.ts';

export interface ReconcileOptions {
  readonly services: StepServices;
  /** Seconds after the end of an operation before what it left is dropped. */
  readonly graceSeconds: number;
  /** Prolongs the turn of whoever compares; rejects when it is another one's. */
  readonly stillMine: () => Promise<void>;
  readonly onDropError: (remains: Remains, error: unknown) => void;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** What came of one comparison. */
export interface Reconciled {
  readonly findings: readonly Drift[];
  readonly dropped: readonly Remains[];
}

/**
 * Compares a cluster with the registry, finishes drops of ours that were interrupted, drops what undone
 * operations of ours left once the grace period is over, and records everything else.
 *
 * @param ledger chooses whose ledger of migrations is looked at this time: each costs a connection
 */
export async function reconcile(
  cluster: Cluster,
  options: ReconcileOptions,
  ledger: (tenants: readonly Registered[]) => readonly Registered[],
): Promise<Reconciled> {
  const { services, graceSeconds, signal, stillMine } = options;
  const { control, failpoints, installation } = services;
  await failpoints.reach('reconcile:before');
  await upgradeRoles(cluster, options);
  const before = await listRegistered(control, cluster.name, graceSeconds);
  const shared = before.filter(({ source }) => source === 'SHARED');
  const { log } = options;
  await tidyGroupRoles(
    cluster,
    shared.map(({ databaseName }) => databaseName),
    { sharedDatabases: services.sharedDatabases, log, signal },
  );
  const inventory = await takeInventory(cluster, before, signal);
  await stillMine();
  // Whatever is there was recorded before it was made: what is not recorded now, is nobody's.
  const after = await listRegistered(control, cluster.name, graceSeconds);
  const remains = await findRemains(control, cluster.name, operationsOf(inventory), graceSeconds);
  const byOperation = new Map(remains.map((one) => [one.operationId, one]));
  const comparison = compare(inventory, { before, after, remains: byOperation, installation });
  const dropped = await drop(cluster, comparison, options);
  // Before the ledgers, where tenants can take their time.
  const sessions = await endClosedSessions(cluster, after, signal, () =>
    listServiceUses(control, cluster.name),
  );
  const tenants = after.filter(
    ({ mayLogIn, settled, source }) => source === 'TENANT' && settled && mayLogIn !== false,
  );
  const looked = ledger(tenants);
  const versions = await wrongVersions(cluster, looked, services, signal);
  await stillMine();
  const gone = new Set(dropped.map(({ tenantId }) => tenantId));
  const found = comparison.findings.filter(
    ({ tenantId }) => tenantId === null || !gone.has(tenantId),
  );
  const findings = [
    ...(await explainLeftovers(cluster, found, comparison.disarmed, signal)),
    ...versions,
    ...sessions,
  ];
  const lookedAt = new Set(looked.map(({ id }) => id));
  const kept = tenants.map(({ id }) => id).filter((id) => !lookedAt.has(id));
  await replaceDrift(control, cluster.name, findings, kept);
  await failpoints.reach('reconcile:after');
  return { findings, dropped };
}

async function takeInventory(
  cluster: Cluster,
  registered: readonly Registered[],
  signal: AbortSignal,
): Promise<ClusterInventory> {
  const databaseNames = registered.map(({ databaseName }) => databaseName);
  const roleNames = registered.flatMap(({ ownerRole, loginRole }) => [ownerRole, loginRole]);
  const { databases, roles } = await cluster.admin(
    async (client) => ({
      databases: await listDatabases(client, markerPrefix, databaseNames),
      roles: await listRoles(
        client,
        markerPrefix,
        roleNames.filter((name) => name !== null),
      ),
    }),
    signal,
  );
  const schemas = new Map<string, readonly SchemaEntry[]>();
  for (const shared of registered.filter(({ source }) => source === 'SHARED')) {
    const found = databases.find(({ name }) => name === shared.databaseName);
    // Another one's database of this name is looked into by nobody.
    if (readMarker(found?.marker ?? null)?.id !== shared.id || found?.halfDropped === true)
      continue;
    const names = registered
      .filter(({ databaseName }) => databaseName === shared.databaseName)
      .flatMap(({ schemaName }) => schemaName ?? []);
    const list = await cluster.inDatabase(
      shared.databaseName,
      (client) => listSchemas(client, markerPrefix, names),
      signal,
    );
    schemas.set(shared.databaseName, list);
  }
  return { databases, roles, schemas };
}

function operationsOf({ databases, roles, schemas }: ClusterInventory): string[] {
  const entries = [...databases, ...roles, ...[...schemas.values()].flat()];
  return [...new Set(entries.flatMap(({ marker }) => readMarker(marker)?.operationId ?? []))];
}

/** Leftover roles with what keeps them from being dropped; those that are gone by now are no finding. */
async function explainLeftovers(
  cluster: Cluster,
  findings: readonly Drift[],
  disarmed: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<Drift[]> {
  const isHeldMaybe = ({ kind, objectName, objectType }: Drift): boolean =>
    kind === 'LEFTOVER_ROLE' ||
    (kind === 'ORPHAN' && objectType === 'ROLE' && disarmed.has(objectName));
  const names = findings.filter(isHeldMaybe).map(({ objectName }) => objectName);
  if (names.length === 0) return [...findings];
  const reasons = await cluster.admin((client) => describeHolders(client, names), signal);
  return findings.flatMap((finding) => {
    if (!isHeldMaybe(finding)) return [finding];
    const reason = reasons.get(finding.objectName);
    if (reason === undefined) return [];
    if (finding.kind === 'ORPHAN' && reason === null) return [finding];
    const detail = `${reason ?? 'another session holds a lock on it'}; ${finding.detail}`;
    return [{ ...finding, kind: 'LEFTOVER_ROLE', detail }];
  });
}

// What other tenants hold on to can cost its whole time for each role: the rest has the next turn.
const leftoversMs = 20_000;

/** One after the other: whoever waits for a tenant needs the server more. */
async function drop(
  cluster: Cluster,
  { forfeit, halfDropped }: Comparison,
  { services, signal, stillMine, onDropError }: ReconcileOptions,
): Promise<Remains[]> {
  const dropped: Remains[] = [];
  const attempt = async (remains: Remains, work: () => Promise<boolean>): Promise<void> => {
    await stillMine();
    try {
      await services.failpoints.reach('reconcile:drop');
      if (await work()) dropped.push(remains);
    } catch (error) {
      signal.throwIfAborted();
      onDropError(remains, error); // its finding stays; the next time it is tried again
    }
  };
  let leftMs = leftoversMs;
  // In any order: over some turns, each has its time.
  for (const remains of forfeit.toSorted(() => Math.random() - 0.5)) {
    const context = contextOf(services, cluster, remains, signal);
    await attempt(remains, async () => {
      await isolationOf(remains.isolation).drop(context);
      const begun = performance.now();
      const left = await removeTenantRoles(context, Math.max(0, Math.min(5_000, leftMs)));
      leftMs -= performance.now() - begun;
      return left.length === 0;
    });
  }
  const done = new Set(forfeit.map(({ tenantId }) => tenantId));
  for (const { name, remains } of halfDropped.filter((one) => !done.has(one.remains.tenantId))) {
    await attempt(remains, async () => {
      await cluster.exclusively(
        tenantLock(remains.tenantId),
        (client) => {
          const withoutBlockers = unblocked(cluster, client, signal);
          return dropDatabase(client, name, { roles: rolesOf(remains), withoutBlockers });
        },
        signal,
      );
      return true;
    });
  }
  return dropped;
}

/** As for the undo of the operation that made it. */
function contextOf(
  services: StepServices,
  cluster: Cluster,
  remains: Remains,
  signal: AbortSignal,
): PlaceContext {
  return {
    operation: { id: remains.operationId },
    tenant: { id: remains.tenantId },
    database: { ...remains, status: 'DROPPED', migrationVersion: null, checkedAt: null },
    secrets: null,
    cluster,
    services,
    findings: {},
    signal,
  };
}

// Of one ledger: its newest entry is asked for, and cut.
const ledgerMaxBytes = 64 * 1024;
const ledgerTimeoutMs = 5_000;

/** Tenants whose own ledger of migrations says something else than the registry. */
async function wrongVersions(
  cluster: Cluster,
  tenants: readonly Registered[],
  { settings, tenantSessions }: StepServices,
  signal: AbortSignal,
): Promise<Drift[]> {
  const findings: Drift[] = [];
  for (const { databaseName, id: tenantId, migrationVersion, ownerRole, schemaName } of tenants) {
    if (ownerRole === null) continue;
    const database = { tenantId, databaseName, schemaName, ownerRole };
    const version = await tenantSessions
      .query(
        servicePlaceOf(cluster, database, settings),
        {
          applicationName: 'tenantry reconcile',
          statementTimeoutMs: ledgerTimeoutMs,
          maxBytes: ledgerMaxBytes,
          signal: AbortSignal.any([signal, AbortSignal.timeout(2 * ledgerTimeoutMs)]),
        },
        (client) => newestMigration(client, schemaName ?? 'public'),
      )
      // What keeps it from being asked is another finding, or passes.
      .catch(() => migrationVersion);
    signal.throwIfAborted();
    if (version === migrationVersion) continue;
    const present = version === null ? 'has no migrations' : `is at ${printable(version)}`;
    const expected = migrationVersion ?? 'none';
    findings.push({
      kind: 'WRONG_VERSION',
      objectType: schemaName === null ? 'DATABASE' : 'SCHEMA',
      objectName: schemaName === null ? databaseName : `${databaseName}.${schemaName}`,
      tenantId,
      detail: `${present}; the registry has ${expected}`,
    });
  }
  return findings;
}
