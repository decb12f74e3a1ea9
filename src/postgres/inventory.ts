import type pg from 'pg';

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
  `ARRAY(SELECT DISTINCT CASE acl.grantee WHEN 0 THEN '' ELSE pg_catalog.pg_get_userbyid(acl.grantee)::pg_catalog.text END
         FROM pg_catalog.aclexplode(coalesce(${acl}, pg_catalog.acldefault('${kind}', ${owner}))) AS acl
         WHERE acl.grantee <> ${owner} ORDER BY 1)`;

/** The databases whose comment begins with `markerPrefix`, and those of these names. */
export async function listDatabases(
  client: pg.ClientBase,
  markerPrefix: string,
  names: readonly string[],
): Promise<DatabaseEntry[]> {
  const { rows } = await client.query<DatabaseEntry>(
    `SELECT datname::pg_catalog.text AS name, description AS marker, datconnlimit = -2 AS "halfDropped",
            pg_catalog.pg_get_userbyid(datdba) = current_user AS "ownedByAdmin",
            ${grantees('datacl', 'd', 'datdba')} AS grantees
     FROM pg_catalog.pg_database
     LEFT JOIN pg_catalog.pg_shdescription ON objoid = oid AND classoid = 'pg_catalog.pg_database'::pg_catalog.regclass
     WHERE pg_catalog.starts_with(description, $1) OR datname = ANY ($2) ORDER BY datname`,
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
    `SELECT rolname::pg_catalog.text AS name, description AS marker, rolcanlogin AS "canLogin",
            pg_catalog.array_remove(ARRAY[
              CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolcreatedb THEN 'CREATEDB' END,
              CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
              CASE WHEN rolreplication THEN 'REPLICATION' END,
              CASE WHEN rolbypassrls THEN 'BYPASSRLS' END], NULL) AS "excessRights",
            ARRAY(SELECT pg_catalog.pg_get_userbyid(roleid)::pg_catalog.text FROM pg_catalog.pg_auth_members WHERE member = pg_roles.oid)
              AS "memberOf"
     FROM pg_catalog.pg_roles LEFT JOIN pg_catalog.pg_shdescription ON objoid = oid AND classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass
     WHERE pg_catalog.starts_with(description, $1) OR rolname = ANY ($2) ORDER BY rolname`,
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
    `SELECT nspname::pg_catalog.text AS name, pg_catalog.obj_description(oid, 'pg_namespace') AS marker,
            pg_catalog.pg_get_userbyid(nspowner) = current_user AS "ownedByAdmin",
            ${grantees('nspacl', 'n', 'nspowner')} AS grantees
     FROM pg_catalog.pg_namespace
     WHERE pg_catalog.starts_with(pg_catalog.obj_description(oid, 'pg_namespace'), $1) OR nspname = ANY ($2)
     ORDER BY nspname`,
    [markerPrefix, names],
  );
  return rows;
}
