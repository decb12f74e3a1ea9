import type pg from 'pg';
import { codeOf, errorCodes } from './error-codes.ts';
import { quoteIdentifier, quoteLiteral } from './identifiers.ts';

/** A session of a cluster's admin. */
export type AdminClient = pg.ClientBase & {
  /** A superuser may do what others have to be a member of a role for. */
  readonly isSuperuser: boolean;
};

export interface RolePair {
  /** Owns what is in the tenant database; cannot log in. */
  readonly owner: string;
  /** Logs in, and works as the owner. */
  readonly login: string;
}

export interface RoleSettings {
  /** SCRAM-SHA-256 verifier; the password itself never reaches the server. */
  readonly verifier: string;
  readonly connectionLimit: number;
  /** Milliseconds; 0: no limit. */
  readonly statementTimeoutMs: number;
  /** Put on both roles as a comment. */
  readonly marker: string;
  /** Advisory lock that is held while they are made, as `Cluster.exclusively` holds it. */
  readonly lock: string;
}

/**
 * Makes an owner role and a login role under it, in one transaction. Both names are made from ids
 * that were recorded before, so a role that is already there is ours, from a run that was cut off:
 * it gets the settings again.
 */
export async function createRolePair(
  client: pg.ClientBase,
  roles: RolePair,
  settings: RoleSettings,
): Promise<void> {
  const owner = quoteIdentifier(roles.owner);
  const login = quoteIdentifier(roles.login);
  const marker = quoteLiteral(settings.marker);
  // Not NOREPLICATION, which is so anyway: an admin without REPLICATION may not even repeat it.
  const attributes = `LOGIN INHERIT NOCREATEDB NOCREATEROLE
    CONNECTION LIMIT ${settings.connectionLimit} PASSWORD ${quoteLiteral(settings.verifier)}`;
  // A client that was cut off does not stop its statement: whoever undoes it waits for the lock.
  const lock = `SELECT pg_advisory_xact_lock(hashtextextended(${quoteLiteral(settings.lock)}, 0));`;
  const configure = `
    ALTER ROLE ${login} SET role = ${quoteLiteral(roles.owner)};
    ALTER ROLE ${login} SET statement_timeout = ${settings.statementTimeoutMs};
    ALTER ROLE ${login} SET idle_in_transaction_session_timeout = '10min';
    COMMENT ON ROLE ${owner} IS ${marker};
    COMMENT ON ROLE ${login} IS ${marker}`;
  // One multi-statement query is one transaction and one round trip: both roles are there, or none.
  try {
    await client.query(`${lock}
      CREATE ROLE ${owner} NOLOGIN NOCREATEDB NOCREATEROLE;
      CREATE ROLE ${login} ${attributes} IN ROLE ${owner};
      ${configure}`);
  } catch (error) {
    if (codeOf(error) !== errorCodes.duplicateObject) throw error;
    await client.query(`${lock} ALTER ROLE ${login} ${attributes}; ${configure}`);
  }
}

/**
 * Drops roles with all that they still own or may do in this database; absent ones are fine. What they
 * may do in other databases keeps them from being dropped: see `databasesWithRightsOf`.
 */
export async function dropRoles(client: AdminClient, names: readonly string[]): Promise<void> {
  const existing = await existingRoles(client, names);
  for (const name of names) {
    if (!existing.has(name)) continue;
    await dropOwned(client, name);
    await client.query(`DROP ROLE IF EXISTS ${quoteIdentifier(name)}`);
  }
}

/** Takes from a role all that it owns or may do in this database, whoever gave it the right. */
export async function dropOwned(client: AdminClient, name: string): Promise<void> {
  // A right goes in the name of whoever gave it: by default that is the owner.
  const { rows } = await client.query<{ owner: string }>(
    `SELECT DISTINCT pg_get_userbyid(owned.refobjid)::text AS owner
     FROM pg_shdepend given JOIN pg_shdepend owned
       ON (owned.dbid, owned.classid, owned.objid) = (given.dbid, given.classid, given.objid)
     WHERE given.refclassid = 'pg_authid'::regclass AND given.refobjid = to_regrole($1)
       AND given.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND given.deptype = 'a' AND owned.deptype = 'o' AND owned.refclassid = 'pg_authid'::regclass`,
    [quoteIdentifier(name)],
  );
  await asMember(client, [name, ...rows.map(({ owner }) => owner)], async () => {
    await client.query(`DROP OWNED BY ${quoteIdentifier(name)}`);
  });
}

/** Databases in which these roles own something or have rights on something. */
export async function databasesWithRightsOf(
  client: pg.ClientBase,
  names: readonly string[],
): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT DISTINCT datname::text AS name FROM pg_shdepend
     JOIN pg_database ON pg_database.oid = dbid
     JOIN pg_roles ON pg_roles.oid = refobjid AND refclassid = 'pg_authid'::regclass
     WHERE rolname = ANY ($1)`,
    [names],
  );
  return rows.map((row) => row.name);
}

/** Those of `names` that are roles of this server. */
export async function existingRoles(
  client: pg.ClientBase,
  names: readonly string[],
): Promise<ReadonlySet<string>> {
  const { rows } = await client.query<{ rolname: string }>(
    'SELECT rolname FROM pg_roles WHERE rolname = ANY ($1)',
    [names],
  );
  return new Set(rows.map((row) => row.rolname));
}

/**
 * Runs `work` in a transaction in which the admin is a member of `roles`: what only their members
 * may do (REASSIGN OWNED, DROP OWNED) is closed even to the role's maker when that is no superuser.
 * The grants go in the same transaction: memberships that stay make every later privilege check of
 * the admin slower.
 */
export async function asMember<T>(
  client: AdminClient,
  roles: readonly string[],
  work: () => Promise<T>,
): Promise<T> {
  if (client.isSuperuser) return work();
  await client.query('BEGIN');
  try {
    const missing = await rolesWithoutMembership(client, roles);
    const list = missing.map(quoteIdentifier).join(', ');
    if (missing.length > 0) await client.query(`GRANT ${list} TO CURRENT_USER`);
    const result = await work();
    if (missing.length > 0) await client.query(`REVOKE ${list} FROM CURRENT_USER`);
    await client.query('COMMIT');
    return result;
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined); // the first error is the one to tell
    throw error;
  }
}

/** Takes a role out of another one. Not in it is fine. */
export async function revokeMembership(
  client: pg.ClientBase,
  role: string,
  member: string,
): Promise<void> {
  await client.query(`REVOKE ${quoteIdentifier(role)} FROM ${quoteIdentifier(member)}`);
}

/** Takes a role out of all those it is in. */
export async function revokeMemberships(client: pg.ClientBase, member: string): Promise<void> {
  const { rows } = await client.query<{ role: string }>(
    `SELECT DISTINCT pg_get_userbyid(roleid)::text AS role FROM pg_auth_members
     WHERE member = to_regrole($1)`,
    [quoteIdentifier(member)],
  );
  for (const { role } of rows) await revokeMembership(client, role, member);
}

async function rolesWithoutMembership(
  client: pg.ClientBase,
  roles: readonly string[],
): Promise<string[]> {
  const { rows } = await client.query<{ rolname: string }>(
    `SELECT rolname FROM pg_roles
     WHERE rolname = ANY ($1) AND NOT pg_has_role(current_user, oid, 'USAGE')`,
    [roles],
  );
  return rows.map((row) => row.rolname);
}
