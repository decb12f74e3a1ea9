import type { Logger } from 'pino';
import {
  listOutdatedRoles,
  recordRoleLayout,
  type OutdatedRoles,
} from '../control/tenant-databases.ts';
import type { Cluster } from '../postgres/cluster.ts';
import { createServiceLogin, markerOf } from '../postgres/roles.ts';
import { joinGroup, setSearchPath } from '../postgres/schemas.ts';
import { searchPathOf, serviceRoleName, tenantLock } from './names.ts';
import type { StepServices } from './step.ts';
import { takeOverFromTemplates } from './tenant-migrations.ts';

export interface RoleUpgradeOptions {
  readonly services: Pick<StepServices, 'control' | 'settings' | 'sharedDatabases'>;
  readonly log: Logger;
  /** Prolongs the turn of the caller; rejects when another instance has it. */
  readonly stillMine: () => Promise<void>;
  readonly signal: AbortSignal;
}

const batchSize = 100;

/**
 * Brings the roles of tenants that an older version made to today's layout: their service logins, the
 * search paths of their logins, their membership in the group of a shared database, and what in a copied
 * database still refers to a template's role. A tenant for which that fails is tried again in the next
 * turn, and holds up no other.
 */
export async function upgradeRoles(cluster: Cluster, options: RoleUpgradeOptions): Promise<void> {
  const { services, signal, stillMine } = options;
  let after: string | null = null;
  let outdated: OutdatedRoles[];
  do {
    outdated = await listOutdatedRoles(services.control, cluster.name, { after, limit: batchSize });
    const upgraded: string[] = [];
    for (const database of outdated) {
      signal.throwIfAborted();
      if (await upgrade(cluster, database, options)) upgraded.push(database.tenantId);
    }
    await recordRoleLayout(services.control, upgraded);
    await stillMine();
    after = outdated.at(-1)?.tenantId ?? null;
  } while (outdated.length === batchSize);
}

async function upgrade(
  cluster: Cluster,
  database: OutdatedRoles,
  { log, services, signal }: RoleUpgradeOptions,
): Promise<boolean> {
  const { databaseName, isolation, loginRole, ownerRole, tenantId } = database;
  try {
    const shared =
      isolation === 'SCHEMA' ? await services.sharedDatabases.current(cluster, databaseName) : null;
    await cluster.admin(async (client) => {
      const marker = (await markerOf(client, ownerRole)) ?? '';
      const roles = { owner: ownerRole, service: serviceRoleName(tenantId) };
      await createServiceLogin(client, roles, { marker, lock: tenantLock(tenantId) });
      await setSearchPath(client, loginRole, searchPathOf(database, services.settings));
      if (shared === null) return;
      await client.query(
        joinGroup({ group: shared.groupRole, owner: ownerRole }, client.serverVersion),
      );
    }, signal);
    if (isolation === 'DATABASE') {
      await cluster.inDatabase(
        databaseName,
        (client) => takeOverFromTemplates(client, ownerRole),
        signal,
      );
    }
    return true;
  } catch (error) {
    signal.throwIfAborted();
    log.warn({ err: error, tenantId }, 'the roles of a tenant could not be brought up to date');
    return false;
  }
}
