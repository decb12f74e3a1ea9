import type pg from 'pg';

export interface AccessReport {
  readonly database: string;
  /** The schema that is searched first; null: none that there is. */
  readonly schema: string | null;
  /** Of the tables asked for, those that these credentials do not see in that schema. */
  readonly missingTables: readonly string[];
  /** Databases other than this one that these credentials may open, of those looked at. */
  readonly openDatabases: readonly string[];
  /** Schemas other than the one searched first that they may work in, of those looked at. */
  readonly openSchemas: readonly string[];
  /** Whether they may make schemas in this database. */
  readonly createsSchemas: boolean;
  /** Rights that a tenant's login must not have, by their names in pg_roles. */
  readonly excessRights: readonly string[];
  /** Roles it is a member of. */
  readonly memberOf: readonly string[];
}

/**
 * Asks the server, as the connected tenant, what these credentials reach: one query, since each round
 * trip is paid by everyone who waits for a tenant.
 *
 * @param closed databases that must be closed to tenants (the control plane above all)
 * @param markerPrefix beginning of the comment on databases and schemas that are ours; the newest of
 *   them are looked at as a sample
 */
export async function reportAccess(
  client: pg.ClientBase,
  requiredTables: readonly string[],
  closed: readonly string[],
  markerPrefix: string,
): Promise<AccessReport> {
  const { rows } = await client.query<AccessReport>(
    `SELECT current_database() AS database, current_schema() AS schema,
       ARRAY(SELECT name FROM unnest($1::text[]) AS name,
                    to_regclass(quote_ident(current_schema()) || '.' || quote_ident(name)) AS found
             WHERE found IS NULL OR NOT has_table_privilege(found, 'SELECT, INSERT')
       ) AS "missingTables",
       ARRAY(SELECT datname::text FROM (
               SELECT oid, datname FROM pg_database WHERE datname = ANY ($2)
               UNION
               (SELECT d.oid, d.datname FROM pg_database d
                 JOIN pg_shdescription s ON s.objoid = d.oid AND s.classoid = 'pg_database'::regclass
                WHERE starts_with(s.description, $3) ORDER BY d.oid DESC LIMIT 20)
             ) AS looked_at
             WHERE datname <> current_database()
               AND has_database_privilege(session_user, oid, 'CONNECT')
       ) AS "openDatabases",
       ARRAY(SELECT nspname::text FROM (
               SELECT oid, nspname FROM pg_namespace
               WHERE nspname NOT LIKE 'pg\\_%' ORDER BY oid DESC LIMIT 20
             ) AS newest
             WHERE nspname IS DISTINCT FROM current_schema()
               AND starts_with(obj_description(oid, 'pg_namespace'), $3)
               AND has_schema_privilege(session_user, oid, 'USAGE, CREATE')
             UNION ALL
             SELECT nspname::text FROM pg_namespace
             WHERE nspname = 'public' AND nspname IS DISTINCT FROM current_schema()
               AND has_schema_privilege(session_user, oid, 'CREATE')
       ) AS "openSchemas",
       has_database_privilege(session_user, current_database(), 'CREATE') AS "createsSchemas",
       (SELECT array_remove(ARRAY[
          CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolcreatedb THEN 'CREATEDB' END,
          CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
          CASE WHEN rolreplication THEN 'REPLICATION' END,
          CASE WHEN rolbypassrls THEN 'BYPASSRLS' END], NULL)
        FROM pg_roles WHERE rolname = session_user) AS "excessRights",
       ARRAY(SELECT pg_get_userbyid(roleid)::text FROM pg_auth_members
             WHERE member = session_user::regrole) AS "memberOf"`,
    [requiredTables, closed, markerPrefix],
  );
  const report = rows[0];
  if (report === undefined) throw new Error('the server answered without a row');
  return report;
}

/** What an admin role may do on its server. */
export interface AdminRights {
  readonly role: string;
  readonly createDatabase: boolean;
  readonly createRole: boolean;
  /** Whether it may make schemas in the connected database, or has all those it needs. */
  readonly createSchema: boolean;
}

/**
 * Asks what the connected role may do; a superuser may do all of it.
 *
 * @param schemas that need not be made where they are there and the role may use them
 */
export async function reportAdminRights(
  client: pg.ClientBase,
  schemas: readonly string[] = [],
): Promise<AdminRights> {
  const { rows } = await client.query<AdminRights>(
    `SELECT rolname AS role, rolsuper OR rolcreatedb AS "createDatabase",
            rolsuper OR rolcreaterole AS "createRole",
            has_database_privilege(current_database(), 'CREATE') OR cardinality($1::text[]) > 0
              AND cardinality($1::text[]) = (SELECT count(*) FROM pg_namespace
                WHERE nspname = ANY ($1) AND has_schema_privilege(oid, 'USAGE')) AS "createSchema"
     FROM pg_roles WHERE rolname = current_user`,
    [schemas],
  );
  const rights = rows[0];
  if (rights === undefined) throw new Error('the server answered without a row');
  return rights;
}
