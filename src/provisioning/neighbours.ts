import type { Cluster } from '../postgres/cluster.ts';
import { sampleDatabases, sampleSchemas } from '../postgres/access.ts';
import { markerPrefix } from './names.ts';

/**
 * What else there is on a cluster, by ids, for a look at what a new tenant's credentials open. Known
 * from the last look as a rule, so that nobody who waits for a tenant waits for it; a use is followed
 * by a new look.
 */
export interface Neighbours {
  /** Databases that have to be closed to tenants, and the newest of ours as a sample. */
  databases(cluster: Cluster, closed: readonly string[]): Promise<readonly number[]>;
  /** In a database that tenants share: the schema `public`, and the newest of ours as a sample. */
  schemas(cluster: Cluster, database: string): Promise<readonly number[]>;
}

const lookEveryMs = 1_000;

/** Keeps what an instance knows of its clusters. */
export function createNeighbours(): Neighbours {
  const known = new Map<string, { readonly at: number; readonly ids: readonly number[] }>();
  const looking = new Map<string, Promise<readonly number[]>>();

  function look(place: string, ask: () => Promise<readonly number[]>): Promise<readonly number[]> {
    const begun =
      looking.get(place) ??
      ask()
        .then((ids) => {
          known.set(place, { at: performance.now(), ids });
          return ids;
        })
        .finally(() => looking.delete(place));
    looking.set(place, begun);
    return begun;
  }

  async function lastLook(
    place: string,
    ask: () => Promise<readonly number[]>,
  ): Promise<readonly number[]> {
    const last = known.get(place);
    if (last === undefined) return look(place, ask);
    if (performance.now() - last.at > lookEveryMs) {
      look(place, ask).catch(() => known.delete(place)); // the next use looks itself
    }
    return last.ids;
  }

  return {
    databases: (cluster, closed) =>
      lastLook(cluster.name, () =>
        cluster.admin((client) => sampleDatabases(client, closed, markerPrefix)),
      ),
    schemas: (cluster, database) =>
      lastLook(`${cluster.name}/${database}`, () =>
        cluster.inSharedDatabase(database, (client) => sampleSchemas(client, markerPrefix)),
      ),
  };
}
