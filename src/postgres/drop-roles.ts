import { codeOf, errorCodes, isTransient } from './error-codes.ts';
import { quoteIdentifier } from './identifiers.ts';
import { existingRoles, inTransactionAs, type AdminClient } from './roles.ts';
import { terminateSessions } from './terminate-sessions.ts';

const lockTimeoutMs = 1_000;

/**
 * Takes login, password and memberships from roles, and takes others out of them; absent ones are fine. A
 * role that another tenant holds on to is good for nothing from then on.
 */
export async function disarmRoles(client: AdminClient, names: readonly string[]): Promise<void> {
  for (const name of await existingRoles(client, names)) {
    await changeRole(client, name, `ALTER ROLE ${quoteIdentifier(name)} NOLOGIN PASSWORD NULL`);
    for (const statement of await revokeStatements(client, name)) {
      // A membership that its giver holds locked, or that the admin may not take: it opens nothing.
      await changeRole(client, name, statement).catch((error: unknown) => {
        if (!isTransient(error) && codeOf(error) !== errorCodes.insufficientPrivilege) throw error;
      });
    }
  }
}

/** A session of the role itself may hold its row; it is ended. */
async function changeRole(client: AdminClient, name: string, statement: string): Promise<void> {
  const change = (): Promise<unknown> => withLockTimeout(client, statement);
  try {
    await change();
  } catch (error) {
    if (!isTransient(error)) throw error;
    await terminateSessions(client, [name]);
    await change();
  }
}

function withLockTimeout(client: AdminClient, statement: string): Promise<void> {
  return inTransactionAs(client, [], async () => {
    await client.query(`SET LOCAL lock_timeout = ${lockTimeoutMs}; ${statement}`);
  });
}

/** The admin's own membership, which the server gave it to administrate the role, stays. */
async function revokeStatements(client: AdminClient, name: string): Promise<string[]> {
  const { rows } = await client.query<{ role: string; member: string; grantor: string | null }>(
    `SELECT pg_catalog.pg_get_userbyid(m.roleid)::pg_catalog.text AS role,
       pg_catalog.pg_get_userbyid(m.member)::pg_catalog.text AS member,
       g.rolname::pg_catalog.text AS grantor
     FROM pg_catalog.pg_auth_members m
     JOIN pg_catalog.pg_roles r ON r.oid IN (m.roleid, m.member)
     LEFT JOIN pg_catalog.pg_roles g ON g.oid = m.grantor
     WHERE r.rolname = $1 AND pg_catalog.pg_get_userbyid(m.member) <> current_user`,
    [name],
  );
  return rows.map(({ grantor, member, role }) => {
    // Before 16 a membership has no grantor that counts.
    const by =
      grantor === null || client.serverVersion < 16
        ? ''
        : ` GRANTED BY ${quoteIdentifier(grantor)}`;
    return `REVOKE ${quoteIdentifier(role)} FROM ${quoteIdentifier(member)}${by} CASCADE`;
  });
}

/**
 * Drops roles of which nothing is left; absent ones are fine.
 *
 * @returns those that something is left of, or that another session keeps from being dropped
 */
export async function dropFreeRoles(
  client: AdminClient,
  names: readonly string[],
): Promise<string[]> {
  const held: string[] = [];
  const existing = await existingRoles(client, names);
  for (const name of names) {
    if (!existing.has(name)) continue;
    try {
      await withLockTimeout(client, `DROP ROLE IF EXISTS ${quoteIdentifier(name)}`);
    } catch (error) {
      const isHeld = codeOf(error) === errorCodes.dependentObjects || isTransientLock(error);
      if (!isHeld) throw error;
      held.push(name);
    }
  }
  return held;
}

function isTransientLock(error: unknown): boolean {
  const code = codeOf(error) ?? '';
  return code !== '' && /^(55P03|40P01|XX000)$/.test(code) && isTransient(error);
}

/** A database in which roles own something or have rights. */
export interface HoldingDatabase {
  readonly name: string;
  readonly allowsConnections: boolean;
}

/** Databases that keep roles from being dropped; for what is no database's own, the connected one. */
export async function holdingDatabases(
  client: AdminClient,
  names: readonly string[],
): Promise<HoldingDatabase[]> {
  const { rows } = await client.query<HoldingDatabase>(
    `SELECT db.datname::pg_catalog.text AS name, db.datallowconn AS "allowsConnections"
     FROM (
       SELECT DISTINCT d.dbid FROM pg_catalog.pg_roles r JOIN pg_catalog.pg_shdepend d
         ON d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.refobjid = r.oid
       WHERE r.rolname = ANY ($1::pg_catalog.name[])
     ) AS held JOIN pg_catalog.pg_database db ON db.oid = held.dbid
       OR held.dbid = 0 AND db.datname = pg_catalog.current_database()
     -- In any order, so that over some tries each has its turn.
     GROUP BY 1, 2 ORDER BY pg_catalog.random()`,
    [names],
  );
  return rows;
}
