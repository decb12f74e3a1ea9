import DataLoader from 'dataloader';
import { listApiKeys } from '../control/api-keys.ts';
import { listPercents, listSteps } from '../control/events.ts';
import { findBatches, listBatchItems } from '../control/batches.ts';
import { findTenantDatabases } from '../control/tenant-databases.ts';
import { findTenants } from '../control/tenants.ts';
import { scopeOf, type Caller } from '../provisioning/caller.ts';
import type { Gateway, Loaders } from './context.ts';

/** The loaders of one request; they see what its caller may see. */
export function createLoaders(
  { control, eventLog, health }: Gateway,
  caller: Caller,
  signal: AbortSignal,
): Loaders {
  return {
    tenants: new DataLoader(async (ids) =>
      one(ids, await findTenants(control, scopeOf(caller), ids), (tenant) => tenant.id),
    ),
    databases: new DataLoader(async (ids) =>
      one(ids, await findTenantDatabases(control, ids), (database) => database.tenantId),
    ),
    apiKeys: new DataLoader(async (ids) =>
      many(ids, await listApiKeys(control, ids), (key) => key.tenantId),
    ),
    steps: new DataLoader(async (ids) => {
      await eventLog.settled(); // what this instance has done shows at once
      return many(ids, await listSteps(control, ids), (step) => step.operationId);
    }),
    batches: new DataLoader(async (ids) =>
      one(ids, await findBatches(control, scopeOf(caller), ids), (batch) => batch.id),
    ),
    batchItems: new DataLoader((ids) => Promise.all(ids.map((id) => listBatchItems(control, id)))),
    percents: new DataLoader(async (ids) => {
      await eventLog.settled();
      const percents = await listPercents(control, ids);
      return ids.map((id) => percents.get(id) ?? 0);
    }),
    // Whoever got as far as a tenant's database may know how it is.
    health: new DataLoader(async (ids) => {
      const checked = await health.check(await findTenants(control, null, ids), signal);
      const byId = new Map(checked.map((one) => [one.tenant.id, one]));
      return ids.map((id) => byId.get(id) ?? new Error(`tenant ${id} is gone`));
    }),
  };
}

function one<T>(
  ids: readonly string[],
  rows: readonly T[],
  idOf: (row: T) => string,
): (T | null)[] {
  const byId = new Map(rows.map((row) => [idOf(row), row]));
  return ids.map((id) => byId.get(id) ?? null);
}

function many<T>(ids: readonly string[], rows: readonly T[], idOf: (row: T) => string): T[][] {
  const byId = Map.groupBy(rows, idOf);
  return ids.map((id) => byId.get(id) ?? []);
}
