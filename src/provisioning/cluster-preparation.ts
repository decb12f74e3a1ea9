import type { Knex } from 'knex';
import type { Logger } from 'pino';
import { controlServer } from '../control/database.ts';
import { SettingError } from '../errors.ts';
import type { Cluster } from '../postgres/cluster.ts';
import { closeToPublic } from '../postgres/databases.ts';
import type { Templates } from './templates.ts';

export interface ClusterPreparationOptions {
  readonly control: Knex;
  readonly templates: Templates;
  readonly log: Logger;
}

/**
 * Makes a cluster that answers ready for tenants: closes what they must not reach, and has its
 * template built. May run again.
 *
 * @param identity tells its server from others
 * @param known what an earlier run returned
 * @returns the databases that are closed to tenants, to be asked for at each verification
 * @throws SettingError when the control plane is open to every role of this server
 */
export type ClusterPreparation = (
  cluster: Cluster,
  identity: string,
  known: readonly string[],
) => Promise<readonly string[]>;

/** Builds the preparation of an installation's clusters. */
export function createClusterPreparation(options: ClusterPreparationOptions): ClusterPreparation {
  const { control, templates, log } = options;
  return async (cluster, identity, known) => {
    // The registry is out of reach of tenants on other servers; a database of its name there is
    // somebody else's.
    const registry = await controlServer(control);
    const vital = registry.identity === identity ? [registry.database] : [];
    const wanted = [...new Set([...vital, cluster.adminDatabase, 'postgres', 'template1'])];
    const open = await cluster.admin((client) => closeToPublic(client, wanted));
    for (const name of open) {
      const statement = `REVOKE ALL ON DATABASE "${name}" FROM PUBLIC`;
      if (vital.includes(name)) {
        throw new SettingError(
          'DATABASE_URL',
          `every role may connect to the control plane; its owner has to run once: ${statement}`,
        );
      }
      const message = `every role may connect; its owner should run once: ${statement}`;
      log.warn({ cluster: cluster.name, database: name }, message);
    }
    templates.forget(cluster); // a server that was away may be another one by now
    await templates.current(cluster);
    const closed = wanted.filter((name) => !open.includes(name));
    // What was found to be the registry's server once is that, also when it started anew meanwhile.
    const registryBefore = known.filter((name) => name === registry.database);
    return [...new Set([...registryBefore, ...closed])];
  };
}
