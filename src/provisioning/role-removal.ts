import type { Cluster } from '../postgres/cluster.ts';
import { disarmRoles, dropFreeRoles, holdingDatabases } from '../postgres/drop-roles.ts';
import { isUnreachable } from '../postgres/error-codes.ts';
import { releaseRoles } from '../postgres/release-roles.ts';
import type { AdminClient } from '../postgres/roles.ts';

export interface RoleRemoval {
  readonly cluster: Cluster;
  /** The logins first, then the roles they are members of. */
  readonly roles: readonly string[];
  /** Runs work on a session of the admin, under the lock of whoever works on these roles. */
  readonly exclusively: <T>(work: (client: AdminClient) => Promise<T>) => Promise<T>;
  /** Milliseconds that may be spent on what others gave to the roles; absent: 5 seconds. */
  readonly withinMs?: number;
  readonly signal?: AbortSignal;
}

/**
 * Drops roles; absent ones are fine. Others can see their names, and give them rights, policies and objects
 * in their own databases: those are taken away where they are, as far as time and locks allow. A role that
 * is held on to all the same is left without login, password and memberships, and can be dropped later.
 *
 * @returns the roles that are left
 */
export async function removeRoles(removal: RoleRemoval): Promise<string[]> {
  const { cluster, exclusively, roles, signal, withinMs = 5_000 } = removal;
  const held = await exclusively(async (client) => {
    await disarmRoles(client, roles);
    return dropFreeRoles(client, roles);
  });
  if (held.length === 0) return [];
  const until = Date.now() + withinMs;
  const databases = await exclusively((client) => holdingDatabases(client, held));
  for (const { allowsConnections, name } of databases) {
    if (!allowsConnections || Date.now() > until) continue;
    try {
      await cluster.inDatabase(name, (client) => releaseRoles(client, held, { until }), signal);
    } catch (error) {
      signal?.throwIfAborted();
      if (isUnreachable(error)) throw error;
      // The database is being dropped, or has no connection free: the next try has them.
    }
  }
  return exclusively((client) => dropFreeRoles(client, held));
}
