import type pg from 'pg';
import {
  endLogicalSenders,
  explainHindrance,
  removeFromInside,
  type InsideDatabase,
} from './database-hindrances.ts';
import { isTransient } from './error-codes.ts';
import type { WithoutBlockers } from './lock-blockers.ts';
import { quoteIdentifier, quoteLiteral } from './identifiers.ts';
import { asMember, type AdminClient } from './roles.ts';

export const databaseStrategies = ['WAL_LOG', 'FILE_COPY'] as const;
export type DatabaseStrategy = (typeof databaseStrategies)[number];

export interface NewDatabase {
  readonly name: string;
  /** Copied from; absent: `template0`. */
  readonly template?: string;
  readonly strategy: DatabaseStrategy;
}

export interface DatabaseFacts {
  readonly marker: string | null;
  readonly allowsConnections: boolean;
  /** An interrupted DROP DATABASE: only dropping again helps. */
  readonly halfDropped: boolean;
}

/** What the server says of a database; null when there is none of that name. */
export async function findDatabase(
  client: pg.ClientBase,
  name: string,
): Promise<DatabaseFacts | null> {
  const { rows } = await client.query<DatabaseFacts>(
    `SELECT pg_catalog.shobj_description(oid, 'pg_database') AS marker,
            datallowconn AS "allowsConnections",
            datconnlimit = -2 AS "halfDropped"
     FROM pg_catalog.pg_database WHERE datname = $1`,
    [name],
  );
  return rows[0] ?? null;
}

/**
 * Creates a database that nobody can connect to: access rights are not copied from a template, so a
 * new one would let everybody in until they are revoked.
 */
export async function createClosedDatabase(
  client: pg.ClientBase,
  database: NewDatabase,
): Promise<void> {
  const template = quoteIdentifier(database.template ?? 'template0');
  await client.query(
    `CREATE DATABASE ${quoteIdentifier(database.name)} TEMPLATE ${template}
     STRATEGY ${database.strategy} ALLOW_CONNECTIONS false`,
  );
}

export interface Opening {
  readonly name: string;
  /** The name it gets; the same when it stays. */
  readonly finalName: string;
  /** Role that may connect, make temporary tables, and make schemas; absent: nobody but the admin. */
  readonly owner?: string;
  /** Role whose member the owner becomes, to take over what that role owns in it. */
  readonly contentOwner?: string;
  readonly marker: string;
  /** Runs the transaction, and ends what keeps it waiting; absent: nothing is ended. */
  readonly withoutBlockers?: WithoutBlockers;
}

const asItIs: WithoutBlockers = (work) => work();

/**
 * Marks a closed database, takes every right from PUBLIC, gives the owner role its own, renames it,
 * and lets connections in: one transaction, so nobody sees it half done.
 */
export async function openDatabase(client: pg.ClientBase, opening: Opening): Promise<void> {
  const name = quoteIdentifier(opening.name);
  const finalName = quoteIdentifier(opening.finalName);
  const { contentOwner, owner, withoutBlockers = asItIs } = opening;
  const membership =
    contentOwner === undefined || owner === undefined
      ? ''
      : `GRANT ${quoteIdentifier(contentOwner)} TO ${quoteIdentifier(owner)};`;
  const statements = `
    COMMENT ON DATABASE ${name} IS ${quoteLiteral(opening.marker)};
    REVOKE ALL ON DATABASE ${name} FROM PUBLIC;
    ${owner === undefined ? '' : `GRANT CONNECT, TEMPORARY, CREATE ON DATABASE ${name} TO ${quoteIdentifier(owner)};`}
    ${membership}
    ${opening.name === opening.finalName ? '' : `ALTER DATABASE ${name} RENAME TO ${finalName};`}
    ALTER DATABASE ${finalName} ALLOW_CONNECTIONS true`;
  await withoutBlockers(() => client.query(statements));
}

/** What dropping a database needs to know beside its name. */
export interface DatabaseDrop {
  /**
   * Roles whose sessions may be open; an admin that is no superuser has to be a member of a role to end
   * its sessions.
   */
  readonly roles?: readonly string[];
  /** Absent: what can only be removed from inside, no tenant can have made in it. */
  readonly inside?: InsideDatabase;
  /** Runs the drop, and ends what keeps it waiting; absent: nothing is ended. */
  readonly withoutBlockers?: WithoutBlockers;
}

/**
 * Drops a database, ending its sessions, and makes sure that it is gone. An absent one is fine. Whatever is
 * inside goes with it.
 *
 * @throws PassingError that names the sessions, prepared transactions, replication slots and subscriptions
 *   that hinder it; Error when it is still there afterwards
 */
export async function dropDatabase(
  client: AdminClient,
  name: string,
  { roles = [], inside, withoutBlockers = asItIs }: DatabaseDrop = {},
): Promise<void> {
  const facts = await findDatabase(client, name);
  if (facts === null) return;
  if (!facts.halfDropped) {
    if (inside !== undefined) await removeFromInside(client, name, inside);
    await client.query(
      `ALTER DATABASE ${quoteIdentifier(name)} ALLOW_CONNECTIONS false IS_TEMPLATE false`,
    );
    await endLogicalSenders(client, name);
    await endSessionsIn(client, name, [...roles, ...(await connectedRoles(client, name))]);
  }
  try {
    const statement = `DROP DATABASE IF EXISTS ${quoteIdentifier(name)} WITH (FORCE)`;
    await withoutBlockers(() => client.query(statement));
  } catch (error) {
    throw await explainHindrance(client, name, error);
  }
  if ((await findDatabase(client, name)) !== null) {
    throw new Error('the database is still there after DROP DATABASE');
  }
}

/** Those of other roles than these and the admin's own (autovacuum) are ended by FORCE. */
async function endSessionsIn(
  client: AdminClient,
  database: string,
  roles: readonly string[],
): Promise<void> {
  const end = (waitMs: number): Promise<unknown> =>
    client.query(
      `SELECT pg_catalog.pg_terminate_backend(pid, $3) FROM (
         SELECT pid FROM pg_catalog.pg_stat_activity
         WHERE datname = $1 AND (usename = ANY ($2) OR usename = current_user)
           AND pid <> pg_catalog.pg_backend_pid()
         LIMIT CASE WHEN $3::pg_catalog.int8 = 0 THEN NULL ELSE 5 END) AS session`,
      [database, roles, waitMs],
    );
  await asMember(client, roles, async () => {
    await end(0);
    await end(1_000); // to FORCE, one that is just ending would be another role's
  });
}

/** Roles connected to a database that the admin may become a member of. */
async function connectedRoles(client: AdminClient, database: string): Promise<string[]> {
  const { rows } = await client.query<{ role: string }>(
    `SELECT DISTINCT r.rolname::pg_catalog.text AS role FROM pg_catalog.pg_stat_activity a
     JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
     WHERE a.datname = $1 AND NOT r.rolsuper AND r.rolname <> current_user
       AND ($2 OR pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER WITH ADMIN OPTION'))`,
    // Before 16, CREATEROLE is enough.
    [database, client.serverVersion < 16],
  );
  return rows.map(({ role }) => role);
}

/**
 * Closes databases to PUBLIC. `REVOKE` by a role that is neither owner nor superuser only warns, so
 * what is in force is asked afterwards.
 *
 * @returns those that are still open, for which their owner has to run the REVOKE
 */
export async function closeToPublic(
  client: pg.ClientBase,
  names: readonly string[],
): Promise<string[]> {
  const open = await openToPublic(client, names);
  for (const name of open) {
    try {
      await client.query(`REVOKE ALL ON DATABASE ${quoteIdentifier(name)} FROM PUBLIC`);
    } catch (error) {
      if (!isTransient(error)) throw error;
      return closeToPublic(client, names); // an instance that starts at the same time does it too
    }
  }
  return open.length === 0 ? [] : openToPublic(client, names);
}

/**
 * Takes every right on the connected database's schema `public` from PUBLIC.
 *
 * @throws Error when PUBLIC still has one: the connected role may not change it
 */
export async function closePublicSchema(client: pg.ClientBase): Promise<void> {
  if (!(await publicSchemaIsOpen(client))) return;
  await client.query('REVOKE ALL ON SCHEMA public FROM PUBLIC');
  if (await publicSchemaIsOpen(client)) {
    throw new Error('the schema public stays open to PUBLIC: the admin does not own it');
  }
}

async function publicSchemaIsOpen(client: pg.ClientBase): Promise<boolean> {
  const { rows } = await client.query(
    `SELECT FROM pg_catalog.pg_namespace, pg_catalog.aclexplode(coalesce(nspacl, pg_catalog.acldefault('n', nspowner))) AS acl
     WHERE nspname = 'public' AND acl.grantee = 0`,
  );
  return rows.length > 0;
}

async function openToPublic(client: pg.ClientBase, names: readonly string[]): Promise<string[]> {
  const { rows } = await client.query<{ datname: string }>(
    `SELECT datname FROM pg_catalog.pg_database
     WHERE datname = ANY ($1) AND datallowconn AND EXISTS (
       SELECT FROM pg_catalog.aclexplode(coalesce(datacl, pg_catalog.acldefault('d', datdba))) AS acl
       WHERE acl.grantee = 0 AND acl.privilege_type = 'CONNECT')
     ORDER BY datname`,
    [names],
  );
  return rows.map((row) => row.datname);
}

/** Which relations of a database `compact` rewrites. */
export type CompactScope =
  /** The catalogs of the database. Shared ones belong to all databases and stay as they are. */
  | 'CATALOGS'
  /** Everything else that the connected role may rewrite: never as the admin, it evaluates index expressions. */
  | 'CONTENT';

/**
 * Rewrites relations of the connected database without the room that is left over in them and without
 * maps of that room: some sixth less for every copy to read, log and write.
 */
export async function compact(client: pg.ClientBase, scope: CompactScope): Promise<void> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT pg_catalog.format('%I.%I', nspname, relname) AS name FROM pg_catalog.pg_class
     JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
     WHERE relkind IN ('r', 'm') AND NOT relisshared AND nspname !~ '^pg_(toast|temp)'
       AND nspname <> 'information_schema' AND (nspname = 'pg_catalog') = $1
     ORDER BY pg_class.oid`,
    [scope === 'CATALOGS'],
  );
  if (rows.length === 0) return;
  await client.query(`VACUUM (FULL, FREEZE) ${rows.map(({ name }) => name).join(', ')}`);
}

/** Closes a database for good and lets it be copied: nobody may be connected to a template. */
export async function closeAsTemplate(client: pg.ClientBase, name: string): Promise<void> {
  const database = quoteIdentifier(name);
  await client.query(`ALTER DATABASE ${database} ALLOW_CONNECTIONS false IS_TEMPLATE true`);
  // The migrating session may not have ended on the server yet, and would block every copy.
  await client.query(
    `SELECT pg_catalog.pg_terminate_backend(pid, 5000) FROM pg_catalog.pg_stat_activity
     WHERE datname = $1 AND usename = current_user AND pid <> pg_catalog.pg_backend_pid()`,
    [name],
  );
}

/** How many sessions a database has. */
export async function countSessions(client: pg.ClientBase, name: string): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    'SELECT pg_catalog.count(*)::pg_catalog.int4 AS count FROM pg_catalog.pg_stat_activity WHERE datname = $1',
    [name],
  );
  return rows[0]?.count ?? 0;
}

/** Size on disk in bytes; null when there is no database of that name. */
export async function databaseSize(client: pg.ClientBase, name: string): Promise<number | null> {
  const { rows } = await client.query<{ size: string }>(
    'SELECT pg_catalog.pg_database_size(oid)::pg_catalog.text AS size FROM pg_catalog.pg_database WHERE datname = $1',
    [name],
  );
  return rows[0] === undefined ? null : Number(rows[0].size);
}
