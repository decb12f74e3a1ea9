import type { Knex } from 'knex';
import pLimit, { type LimitFunction } from 'p-limit';
import {
  listActiveTenants,
  listCheckedPlaces,
  recordChecks,
  type CheckedPlace,
  type CheckRecord,
} from '../control/health-checks.ts';
import type { Tenant } from '../control/tenants.ts';
import type { Cluster } from '../postgres/cluster.ts';
import { healthScopeOf, type Caller } from './caller.ts';
import { probe, type ProbeOptions, type ProbeResult } from './health-probe.ts';
import { looksLikeUuid } from './names.ts';

export const healthStatuses = ['HEALTHY', 'UNHEALTHY', 'ERROR'] as const;
export type HealthStatus = (typeof healthStatuses)[number];

/** How a tenant's database is, as its own credentials find it. Holds no secret. */
export interface TenantHealth {
  readonly tenant: Tenant;
  readonly status: HealthStatus;
  readonly reachable: boolean;
  /** Required tables there, and no tenant migration missing. */
  readonly schemaValid: boolean;
  /** As its own ledger has it; null: it has none, or could not be looked at. */
  readonly migrationVersion: string | null;
  /** Of connecting and looking, milliseconds; null: it was not reached. */
  readonly latencyMs: number | null;
  readonly checkedAt: Date;
  /** What is wrong, for people; null: nothing. */
  readonly error: string | null;
}

/** Looks at tenants' databases. */
export interface HealthChecks {
  /**
   * Checks the tenants in use that the caller may know the health of.
   *
   * @param ids these of them, in this order; null: all, the oldest first
   * @param signal nothing more is begun once it aborts: nobody waits for the answer
   */
  tenantHealth(
    caller: Caller,
    ids: readonly string[] | null,
    signal: AbortSignal,
  ): Promise<TenantHealth[]>;
  /** Checks these tenants, in their order, whoever asks; of one that is not in use it says so. */
  check(tenants: readonly Tenant[], signal: AbortSignal): Promise<TenantHealth[]>;
}

export interface HealthOptions extends Omit<ProbeOptions, 'timeoutMs'> {
  readonly control: Knex;
  readonly clusters: ReadonlyMap<string, Cluster>;
  /** Newest tenant migration that this instance knows; null: there are none. */
  readonly newestMigration: string | null;
}

// Of the connections that a cluster is given, these few at once for looks: whoever makes a tenant there
// does not wait behind them.
const looksAtOnce = 4;
const lookTimeoutMs = 5_000;

/** Builds the health checks of an instance. */
export function createHealthChecks(options: HealthOptions): HealthChecks {
  const { clusters, control, newestMigration } = options;
  const limits = new Map<string, LimitFunction>(
    [...clusters.keys()].map((name) => [name, pLimit(looksAtOnce)]),
  );

  /** One cluster's tenants: what does not answer holds up nobody but its own. */
  async function checkCluster(
    name: string,
    places: readonly (readonly [Tenant, CheckedPlace])[],
    signal: AbortSignal,
  ): Promise<TenantHealth[]> {
    const cluster = clusters.get(name);
    const limit = limits.get(name);
    if (cluster === undefined || limit === undefined) {
      return places.map(([tenant]) => unknown(tenant, `Its cluster ${name} is not configured`));
    }
    // Once the admin itself gets no answer: a tenant that hangs says nothing of its cluster.
    let isSilent = false;
    return Promise.all(
      places.map(([tenant, place]) =>
        limit(async () => {
          if (signal.aborted) return unknown(tenant, 'Nobody waited for the answer');
          if (isSilent) return unknown(tenant, 'Its cluster does not answer');
          const begun = performance.now();
          const result = await probe(place, cluster, { ...options, timeoutMs: lookTimeoutMs });
          const elapsedMs = performance.now() - begun;
          if (result.silent && !(await answers(cluster, lookTimeoutMs))) isSilent = true;
          return toHealth(tenant, result, elapsedMs, newestMigration);
        }),
      ),
    );
  }

  async function check(tenants: readonly Tenant[], signal: AbortSignal): Promise<TenantHealth[]> {
    const used = tenants.filter(({ status }) => status === 'ACTIVE');
    const places = new Map(
      (
        await listCheckedPlaces(
          control,
          used.map(({ id }) => id),
        )
      ).map((place) => [place.tenantId, place]),
    );
    const found = used.flatMap((tenant) => {
      const place = places.get(tenant.id);
      return place === undefined ? [] : [[tenant, place] as const];
    });
    const byCluster = Map.groupBy(found, ([, { cluster }]) => cluster);
    const checked = (
      await Promise.all([...byCluster].map(([name, list]) => checkCluster(name, list, signal)))
    ).flat();
    if (!signal.aborted)
      await recordChecks(
        control,
        checked.map((one) => toRecord(one, newestMigration)),
      );
    const byId = new Map(checked.map((health) => [health.tenant.id, health]));
    return tenants.map(
      (tenant) =>
        byId.get(tenant.id) ?? unknown(tenant, `A tenant that is ${tenant.status} lets nobody in`),
    );
  }

  return {
    check,

    async tenantHealth(caller, ids, signal) {
      const known = ids?.filter(looksLikeUuid) ?? null;
      const tenants = await listActiveTenants(control, healthScopeOf(caller), known);
      if (known === null) return check(tenants, signal);
      const byId = new Map(tenants.map((tenant) => [tenant.id, tenant]));
      const asked = [...new Set(known.map((id) => id.toLowerCase()))];
      return check(
        asked.flatMap((id) => byId.get(id) ?? []),
        signal,
      );
    },
  };
}

function toHealth(
  tenant: Tenant,
  { error, found }: ProbeResult,
  elapsedMs: number,
  newest: string | null,
): TenantHealth {
  if (found === null) return unknown(tenant, error ?? 'It could not be looked at');
  const { migrationVersion, refused, tablesThere } = found;
  // Its data is as it should be or not; the tenant cannot come to it.
  if (refused) {
    return { ...unknown(tenant, error ?? ''), schemaValid: tablesThere, migrationVersion };
  }
  const outdated = isOutdated(migrationVersion, newest);
  const schemaValid = tablesThere && !outdated;
  const behind = outdated
    ? `It lacks tenant migrations: it is at ${migrationVersion ?? 'none'}, the newest is ${newest ?? 'none'}`
    : null;
  return {
    tenant,
    status: schemaValid ? 'HEALTHY' : 'UNHEALTHY',
    reachable: true,
    schemaValid,
    migrationVersion,
    latencyMs: Math.round(elapsedMs * 10) / 10,
    checkedAt: new Date(),
    error: error ?? behind,
  };
}

/** Files are applied in the order of their names; one that is ahead was migrated by a newer version. */
function isOutdated(version: string | null, newest: string | null): boolean {
  return newest !== null && (version === null || version < newest);
}

function toRecord(
  { checkedAt, migrationVersion, reachable, tenant }: TenantHealth,
  newest: string | null,
): CheckRecord {
  const status = !reachable
    ? 'UNREACHABLE'
    : isOutdated(migrationVersion, newest)
      ? 'OUTDATED'
      : 'PROVISIONED';
  return { tenantId: tenant.id, status, checkedAt };
}

/** Whether the admin of a cluster gets an answer in time. */
async function answers(cluster: Cluster, timeoutMs: number): Promise<boolean> {
  try {
    await cluster.admin((client) => client.query('SELECT 1'), AbortSignal.timeout(timeoutMs));
    return true;
  } catch {
    return false;
  }
}

function unknown(tenant: Tenant, error: string): TenantHealth {
  return {
    tenant,
    status: 'ERROR',
    reachable: false,
    schemaValid: false,
    migrationVersion: null,
    latencyMs: null,
    checkedAt: new Date(),
    error,
  };
}
