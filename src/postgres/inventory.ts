import type pg from 'pg';
import { quoteIdentifier } from './identifiers.ts';

/** A database as the server has it. */
export interface DatabaseEntry {
  readonly name: string;
  readonly marker: string | null;
  /** Whether it belongs to the connected admin. */
  readonly ownedByAdmin: boolean;
  /** An interrupted DROP DATABASE: only dropping again helps. */
  readonly halfDropped: boolean;
  /** Roles with rights on it beside its owner; '' is PUBLIC. */
  readonly grantees: readonly string[];
}

/** A schema of one database. */
export type SchemaEntry = Omit<DatabaseEntry, 'halfDropped'>;

/** A role as the server has it. */
export interface RoleEntry {
  readonly name: string;
  readonly marker: string | null;
  readonly canLogin: boolean;
  /** Rights that a tenant's role must not have, by their names in pg_roles. */
  readonly excessRights: readonly string[];
  /** Roles it is a member of. */
  readonly memberOf: readonly string[];
}

const grantees = (acl: string, kind: 'd' | 'n', owner: string): string =>
  `ARRAY(SELECT DISTINCT CASE acl.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(acl.grantee)::text END
         FROM aclexplode(coalesce(${acl}, acldefault('${kind}', ${owner}))) AS acl
         WHERE acl.grantee <> ${owner} ORDER BY 1)`;

/** The databases whose comment begins with `markerPrefix`, and those of these names. */
export async function listDatabases(
  client: pg.ClientBase,
  markerPrefix: string,
  names: readonly string[],
): Promise<DatabaseEntry[]> {
  const { rows } = await client.query<DatabaseEntry>(
    `SELECT datname::text AS name, description AS marker, datconnlimit = -2 AS "halfDropped",
            pg_get_userbyid(datdba) = current_user AS "ownedByAdmin",
            ${grantees('datacl', 'd', 'datdba')} AS grantees
     FROM pg_database
     LEFT JOIN pg_shdescription ON objoid = oid AND classoid = 'pg_database'::regclass
     WHERE starts_with(description, $1) OR datname = ANY ($2) ORDER BY datname`,
    [markerPrefix, names],
  );
  return rows;
}

/** The same for roles. */
export async function listRoles(
  client: pg.ClientBase,
  markerPrefix: string,
  names: readonly string[],
): Promise<RoleEntry[]> {
  const { rows } = await client.query<RoleEntry>(
    `SELECT rolname::text AS name, description AS marker, rolcanlogin AS "canLogin",
            array_remove(ARRAY[
              CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolcreatedb THEN 'CREATEDB' END,
              CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
              CASE WHEN rolreplication THEN 'REPLICATION' END,
              CASE WHEN rolbypassrls THEN 'BYPASSRLS' END], NULL) AS "excessRights",
            ARRAY(SELECT pg_get_userbyid(roleid)::text FROM pg_auth_members WHERE member = pg_roles.oid)
              AS "memberOf"
     FROM pg_roles LEFT JOIN pg_shdescription ON objoid = oid AND classoid = 'pg_authid'::regclass
     WHERE starts_with(description, $1) OR rolname = ANY ($2) ORDER BY rolname`,
    [markerPrefix, names],
  );
  return rows;
}

/** The same for the schemas of the connected database. */
export async function listSchemas(
  client: pg.ClientBase,
  markerPrefix: string,
  names: readonly string[],
): Promise<SchemaEntry[]> {
  const { rows } = await client.query<SchemaEntry>(
    `SELECT nspname::text AS name, obj_description(oid, 'pg_namespace') AS marker,
            pg_get_userbyid(nspowner) = current_user AS "ownedByAdmin",
            ${grantees('nspacl', 'n', 'nspowner')} AS grantees
     FROM pg_namespace
     WHERE starts_with(obj_description(oid, 'pg_namespace'), $1) OR nspname = ANY ($2)
     ORDER BY nspname`,
    [markerPrefix, names],
  );
  return rows;
}

/**
 * The newest entry in the ledger of migrations that lies in this schema of the connected database; null
 * when it is empty or is not there.
 */
export async function newestMigration(
  client: pg.ClientBase,
  schema: string,
): Promise<string | null> {
  const ledger = `${quoteIdentifier(schema)}.knex_migrations`;
  const { rows: found } = await client.query<{ there: boolean }>(
    `SELECT EXISTS (SELECT FROM pg_tables
       WHERE schemaname = $1 AND tablename = 'knex_migrations') AS there`,
    [schema],
  );
  if (found[0]?.there !== true) return null;
  const { rows } = await client.query<{ name: string }>(
    `SELECT name FROM ${ledger} ORDER BY id DESC LIMIT 1`,
  );
  return rows[0]?.name ?? null;
}
