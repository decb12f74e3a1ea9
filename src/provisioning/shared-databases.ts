import type { Knex } from 'knex';
import { groupRoleOf, recordGroupRole, recordSharedDatabase } from '../control/shared-databases.ts';
import type { Cluster } from '../postgres/cluster.ts';
import {
  closePublicSchema,
  createClosedDatabase,
  dropDatabase,
  findDatabase,
  openDatabase,
  type DatabaseStrategy,
} from '../postgres/databases.ts';
import { codeOf, errorCodes } from '../postgres/error-codes.ts';
import { identifierFromId, quoteIdentifier } from '../postgres/identifiers.ts';
import { createMarkedRole, findMarkedRole, type AdminClient } from '../postgres/roles.ts';
import { mayConnect } from '../postgres/schemas.ts';
import { groupRoleNames, sharedDatabaseMarker } from './names.ts';
import { unblocked } from './unblocked.ts';

/** A database that holds tenants of SCHEMA isolation. */
export interface SharedDatabase {
  readonly name: string;
  readonly marker: string;
  /** Its members, the owner roles of its tenants, may connect; it may do nothing else and owns nothing. */
  readonly groupRole: string;
}

/** The shared tenant databases, as an instance knows them. */
export interface SharedDatabases {
  /**
   * The database of this name on a cluster, made when there is none yet. Null: there is one that this
   * control plane did not make.
   */
  current(cluster: Cluster, name: string): Promise<SharedDatabase | null>;
  /** Has `current` look anew: something about it is not as it was. */
  forget(cluster: Cluster, name: string): void;
}

/** Keeps the shared tenant databases of an instance. */
export function createSharedDatabases(options: {
  readonly control: Knex;
  readonly strategy: DatabaseStrategy;
}): SharedDatabases {
  const known = new Map<string, Promise<SharedDatabase | null>>();
  return {
    current(cluster, name) {
      const key = `${cluster.name}/${name}`;
      let database = known.get(key);
      if (database === undefined) {
        database = ensure(options.control, cluster, name, options.strategy);
        known.set(key, database);
        // What keeps it from being made may be mended; a cluster that was down comes back.
        database.then(
          (made) => made ?? known.delete(key),
          () => known.delete(key),
        );
      }
      return database;
    },

    forget(cluster, name) {
      known.delete(`${cluster.name}/${name}`);
    },
  };
}

async function ensure(
  control: Knex,
  cluster: Cluster,
  name: string,
  strategy: DatabaseStrategy,
): Promise<SharedDatabase | null> {
  const id = await recordSharedDatabase(control, cluster.name, name);
  const marker = sharedDatabaseMarker(id);
  // One instance makes it, the others wait for it and find it.
  const isOurs = await cluster.exclusively(`tenantry:shared:${id}`, async (client) => {
    const found = await findDatabase(client, name);
    return found === null ? make(client, { id, name, marker, strategy }) : found.marker === marker;
  });
  if (!isOurs) return null;
  // Only the admin gets in before the first tenant has its schema.
  await cluster.inDatabase(name, closePublicSchema);
  const groupRole = await cluster.exclusively(`tenantry:shared:${id}`, (client) =>
    ensureGroup(control, client, { id, name, marker, cluster }),
  );
  return { name, marker, groupRole };
}

/** Creates the group role of a shared database, under a name of its own where another one has the usual. */
async function ensureGroup(
  control: Knex,
  client: AdminClient,
  plan: Omit<SharedDatabase, 'groupRole'> & { readonly id: string; readonly cluster: Cluster },
): Promise<string> {
  const { cluster, id, marker, name } = plan;
  // An operator may have renamed it.
  const present = await findMarkedRole(client, marker);
  const names = present === null ? groupRoleNames(id) : [present];
  for (const role of names) {
    if (!(await createMarkedRole(client, role, marker))) continue;
    // Not where it has them: even then GRANT waits for an open transaction that has changed the database's
    // rights, and a tenant can keep a GRANT of its own open that changes nothing.
    if (!(await mayConnect(client, { database: name, role }))) {
      const grant = `GRANT CONNECT, TEMPORARY ON DATABASE ${quoteIdentifier(name)} TO ${quoteIdentifier(role)}`;
      await unblocked(cluster, client)(() => client.query(grant));
    }
    if ((await groupRoleOf(control, id)) !== role) await recordGroupRole(control, id, role);
    return role;
  }
  throw new Error(`the role ${names.join(', ')} exists, and this control plane did not create it`);
}

/**
 * Makes it under an opaque name, which is ours whatever happens, and gives it the final name together
 * with its marker: so a database of that name without our marker is never ours.
 *
 * @returns false when another control plane was faster to take the name
 */
async function make(
  client: AdminClient,
  plan: Omit<SharedDatabase, 'groupRole'> & {
    readonly id: string;
    readonly strategy: DatabaseStrategy;
  },
): Promise<boolean> {
  const opaque = identifierFromId('shd_', plan.id);
  if ((await findDatabase(client, opaque)) === null) {
    await createClosedDatabase(client, { name: opaque, strategy: plan.strategy });
  }
  try {
    await openDatabase(client, { name: opaque, finalName: plan.name, marker: plan.marker });
  } catch (error) {
    if (codeOf(error) !== errorCodes.duplicateDatabase) throw error;
    await dropDatabase(client, opaque);
    return false;
  }
  return true;
}
