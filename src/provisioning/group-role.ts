import type { Logger } from 'pino';
import type { Cluster } from '../postgres/cluster.ts';
import { dropOwnedBy } from '../postgres/drop-owned.ts';
import { markerOf } from '../postgres/roles.ts';
import { leaveToGroup } from '../postgres/schemas.ts';
import type { SharedDatabases } from './shared-databases.ts';
import { unblocked } from './unblocked.ts';

/**
 * Sees to it that the right to connect to each shared database is the group's alone, which older versions
 * gave to each tenant, and drops what the group came to own. Before PostgreSQL 16 every member of a group
 * can work as the group, and leave large objects, default privileges and prepared transactions behind;
 * on later versions a member is not allowed to. What another session holds locked is dropped in a later turn.
 */
export async function tidyGroupRoles(
  cluster: Cluster,
  databases: readonly string[],
  options: {
    readonly sharedDatabases: SharedDatabases;
    readonly log: Logger;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const { log, sharedDatabases, signal } = options;
  for (const database of databases) {
    try {
      let shared = await sharedDatabases.current(cluster, database);
      if (shared === null) continue;
      const { groupRole, marker } = shared;
      if ((await cluster.admin((client) => markerOf(client, groupRole), signal)) !== marker) {
        sharedDatabases.forget(cluster, database); // an operator renamed or dropped it
        shared = await sharedDatabases.current(cluster, database);
        if (shared === null) continue;
      }
      const role = shared.groupRole;
      const version = await cluster.admin(async (client) => {
        await leaveToGroup(client, { database, group: role }, unblocked(cluster, client));
        return client.serverVersion;
      }, signal);
      if (version >= 16) continue;
      const dropped = await cluster.inSharedDatabase(
        database,
        (client) => dropOwnedBy(client, { database, role }),
        signal,
      );
      if (dropped) log.warn({ database, role }, 'dropped what the group of all tenants owned');
    } catch (error) {
      signal.throwIfAborted();
      log.warn({ err: error, database }, 'the group of all tenants could not be tidied up');
    }
  }
}
