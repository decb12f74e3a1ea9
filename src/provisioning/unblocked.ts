import type { Cluster } from '../postgres/cluster.ts';
import { withoutBlockersOf, type WithoutBlockers } from '../postgres/lock-blockers.ts';
import type { AdminClient } from '../postgres/roles.ts';
import { markerPrefix } from './names.ts';

/**
 * Returns a function that runs work of an admin's session, and ends sessions of tenants that keep it waiting
 * for a lock on a database. Any role can hold one: `ALTER ROLE … IN DATABASE … SET` on itself does, for each
 * database of the server.
 */
export function unblocked(
  cluster: Cluster,
  client: AdminClient,
  signal?: AbortSignal,
): WithoutBlockers {
  return withoutBlockersOf({
    client,
    database: cluster.adminDatabase,
    observe: (look) => cluster.admin(look, signal),
    markerPrefix,
  });
}
