import type pg from 'pg';
import { codeOf, errorCodes } from './error-codes.ts';
import { quoteIdentifier, quoteLiteral } from './identifiers.ts';

/** A session of a cluster's admin. */
export type AdminClient = pg.ClientBase & {
  /** A superuser may do what others have to be a member of a role for. */
  readonly isSuperuser: boolean;
  /** Major version. */
  readonly serverVersion: number;
};

/** The roles of one tenant. */
export interface TenantRoles {
  /** Owns what is in the tenant database; cannot log in. */
  readonly owner: string;
  /** Logs in, and works as the owner. */
  readonly login: string;
  /** Works as the owner for the product, and can log in during a use alone. */
  readonly service: string;
}

export interface RoleSettings {
  /** SCRAM-SHA-256 verifier; the password itself never reaches the server. */
  readonly verifier: string;
  readonly connectionLimit: number;
  /** Milliseconds; 0: no limit. */
  readonly statementTimeoutMs: number;
  /** Schemas that the login finds things in, in their order. */
  readonly searchPath: readonly string[];
  /** Put on all three roles as a comment. */
  readonly marker: string;
  /** Advisory lock that is held while they are made, as `Cluster.exclusively` holds it. */
  readonly lock: string;
}

/**
 * Creates an owner role, and a login role and a service login under it, in one transaction. The names are
 * made from ids that were recorded before, so a role that exists is ours, from a run that was cut off or
 * from an older version: it gets the settings again.
 */
export async function createTenantRoles(
  client: pg.ClientBase,
  roles: TenantRoles,
  settings: RoleSettings,
): Promise<void> {
  const owner = quoteIdentifier(roles.owner);
  const login = quoteIdentifier(roles.login);
  const marker = quoteLiteral(settings.marker);
  // Not NOREPLICATION, which is so anyway: an admin without REPLICATION may not even repeat it.
  const attributes = `LOGIN INHERIT NOCREATEDB NOCREATEROLE
    CONNECTION LIMIT ${settings.connectionLimit} PASSWORD ${quoteLiteral(settings.verifier)}`;
  // A client that was cut off does not stop its statement: the undo waits for the lock.
  const lock = lockTransaction(settings.lock);
  const configure = `
    ALTER ROLE ${login} SET role = ${quoteLiteral(roles.owner)};
    ALTER ROLE ${login} SET search_path = ${settings.searchPath.map(quoteIdentifier).join(', ')};
    ALTER ROLE ${login} SET statement_timeout = ${settings.statementTimeoutMs};
    ALTER ROLE ${login} SET idle_in_transaction_session_timeout = '10min';
    COMMENT ON ROLE ${owner} IS ${marker};
    COMMENT ON ROLE ${login} IS ${marker}`;
  // One multi-statement query is one transaction and one round trip: all roles exist, or none.
  try {
    await client.query(`${lock}
      CREATE ROLE ${owner} NOLOGIN NOCREATEDB NOCREATEROLE;
      CREATE ROLE ${login} ${attributes} IN ROLE ${owner};
      ${configure};
      ${createService(roles, settings.marker)}`);
  } catch (error) {
    if (codeOf(error) !== errorCodes.duplicateObject) throw error;
    await client.query(`${lock} ALTER ROLE ${login} ${attributes}; ${configure}`);
    await createServiceLogin(client, roles, settings);
  }
}

/** Creates the service login of a tenant whose other roles exist. One that exists already is fine. */
export async function createServiceLogin(
  client: pg.ClientBase,
  roles: Pick<TenantRoles, 'owner' | 'service'>,
  { lock, marker }: Pick<RoleSettings, 'lock' | 'marker'>,
): Promise<void> {
  try {
    await client.query(`${lockTransaction(lock)} ${createService(roles, marker)}`);
  } catch (error) {
    if (codeOf(error) !== errorCodes.duplicateObject) throw error;
  }
}

function createService({ owner, service }: Pick<TenantRoles, 'owner' | 'service'>, marker: string) {
  const role = quoteIdentifier(service);
  return `
    CREATE ROLE ${role} NOLOGIN INHERIT NOCREATEDB NOCREATEROLE
      CONNECTION LIMIT ${serviceConnections} IN ROLE ${quoteIdentifier(owner)};
    ALTER ROLE ${role} SET role = ${quoteLiteral(owner)};
    COMMENT ON ROLE ${role} IS ${quoteLiteral(marker)}`;
}

// One use at a time has one session; the one before may still be ending.
const serviceConnections = 2;

function lockTransaction(key: string): string {
  return `SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended(${quoteLiteral(key)}, 0));`;
}

/**
 * Creates a role that cannot log in and carries this comment, unless it exists with it.
 *
 * @returns false when another role of this name exists
 */
export async function createMarkedRole(
  client: pg.ClientBase,
  name: string,
  marker: string,
): Promise<boolean> {
  const role = quoteIdentifier(name);
  try {
    await client.query(`CREATE ROLE ${role} NOLOGIN NOCREATEDB NOCREATEROLE;
      COMMENT ON ROLE ${role} IS ${quoteLiteral(marker)}`);
    return true;
  } catch (error) {
    const code = codeOf(error);
    if (code !== errorCodes.duplicateObject && code !== errorCodes.uniqueViolation) throw error;
  }
  return (await markerOf(client, name)) === marker;
}

/** Name of a role that carries this comment; null: there is none. */
export async function findMarkedRole(
  client: pg.ClientBase,
  marker: string,
): Promise<string | null> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT r.rolname::pg_catalog.text AS name
     FROM pg_catalog.pg_shdescription d JOIN pg_catalog.pg_roles r ON r.oid = d.objoid
     WHERE d.classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.description = $1
     ORDER BY r.oid LIMIT 1`,
    [marker],
  );
  return rows[0]?.name ?? null;
}

/** The comment on a role; null: it has none, or does not exist. */
export async function markerOf(client: pg.ClientBase, role: string): Promise<string | null> {
  const { rows } = await client.query<{ marker: string | null }>(
    `SELECT pg_catalog.shobj_description(oid, 'pg_authid') AS marker
     FROM pg_catalog.pg_roles WHERE rolname = $1`,
    [role],
  );
  return rows[0]?.marker ?? null;
}

/**
 * Lets a service login in with this SCRAM-SHA-256 verifier, until `closeServiceLogin`. What ran in an earlier
 * session of it may have changed its settings, so that it could not log in any more: they are as at first.
 */
export async function openServiceLogin(
  client: pg.ClientBase,
  {
    database,
    owner,
    service,
  }: { readonly database: string; readonly owner: string; readonly service: string },
  verifier: string,
): Promise<void> {
  const role = quoteIdentifier(service);
  await client.query(`
    ALTER ROLE ${role} RESET ALL;
    ALTER ROLE ${role} IN DATABASE ${quoteIdentifier(database)} RESET ALL;
    ALTER ROLE ${role} SET role = ${quoteLiteral(owner)};
    ALTER ROLE ${role} LOGIN PASSWORD ${quoteLiteral(verifier)}`);
}

/** Takes the right to log in from a service login. Sessions stay: see `terminateSessions`. */
export async function closeServiceLogin(client: pg.ClientBase, service: string): Promise<void> {
  await client.query(`ALTER ROLE ${quoteIdentifier(service)} NOLOGIN PASSWORD NULL`);
}

/** Those of `names` that are roles of this server. */
export async function existingRoles(
  client: pg.ClientBase,
  names: readonly string[],
): Promise<ReadonlySet<string>> {
  const { rows } = await client.query<{ rolname: string }>(
    'SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY ($1)',
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

/** Runs `work` in a transaction, as `asMember` does, also as a superuser. */
export async function inTransactionAs<T>(
  client: AdminClient,
  roles: readonly string[],
  work: () => Promise<T>,
): Promise<T> {
  if (!client.isSuperuser) return asMember(client, roles, work);
  await client.query('BEGIN');
  try {
    const result = await work();
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

/** Takes members out of roles. Not in them is fine. */
export async function revokeRoles(
  client: pg.ClientBase,
  roles: readonly string[],
  members: readonly string[],
): Promise<void> {
  await client.query(
    `REVOKE ${roles.map(quoteIdentifier).join(', ')} FROM ${members.map(quoteIdentifier).join(', ')}`,
  );
}

/** Takes a role out of all those it is in. */
export async function revokeMemberships(client: pg.ClientBase, member: string): Promise<void> {
  const { rows } = await client.query<{ role: string }>(
    `SELECT DISTINCT pg_catalog.pg_get_userbyid(roleid)::pg_catalog.text AS role FROM pg_catalog.pg_auth_members
     WHERE member = pg_catalog.to_regrole($1)`,
    [quoteIdentifier(member)],
  );
  for (const { role } of rows) await revokeMembership(client, role, member);
}

async function rolesWithoutMembership(
  client: pg.ClientBase,
  roles: readonly string[],
): Promise<string[]> {
  const { rows } = await client.query<{ rolname: string }>(
    `SELECT rolname FROM pg_catalog.pg_roles
     WHERE rolname = ANY ($1) AND NOT pg_catalog.pg_has_role(current_user, oid, 'USAGE')`,
    [roles],
  );
  return rows.map((row) => row.rolname);
}
