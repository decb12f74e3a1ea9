import type pg from 'pg';

export interface AccessReport {
  readonly database: string;
  /** The schema that is searched first; null: none that there is. */
  readonly schema: string | null;
  /** Of the tables asked for, those that these credentials do not see in that schema. */
  readonly missingTables: readonly string[];
  /** Databases other than this one that these credentials may open, of those looked at, by their ids. */
  readonly openDatabases: readonly number[];
  /** Schemas other than the one searched first that they may work in, likewise. */
  readonly openSchemas: readonly number[];
  /** Whether they may make schemas in this database. */
  readonly createsSchemas: boolean;
  /** Rights that a tenant's login must not have, by their names in pg_roles. */
  readonly excessRights: readonly string[];
  /** Roles it is a member of. */
  readonly memberOf: readonly string[];
}

export interface AccessQuestion {
  readonly requiredTables: readonly string[];
  /** Databases to look at, by their ids; those that are gone by now count as closed. */
  readonly databases: readonly number[];
  /** Schemas of this database to look at, by their ids; likewise. */
  readonly schemas: readonly number[];
  /** Whether to ask for the role's own rights and memberships too. */
  readonly role: boolean;
}

/**
 * Asks the server, as the connected tenant, what these credentials reach: one query, since each round
 * trip is paid by everyone who waits for a tenant, and with as few catalogs as will do: a new session
 * has to read them all.
 */
export async function reportAccess(
  client: pg.ClientBase,
  { requiredTables, databases, role, schemas }: AccessQuestion,
): Promise<AccessReport> {
  const { rows } = await client.query<AccessReport>(
    `SELECT current_database() AS database, current_schema() AS schema,
       ARRAY(SELECT name FROM unnest($1::text[]) AS name,
                    to_regclass(quote_ident(current_schema()) || '.' || quote_ident(name)) AS found
             WHERE found IS NULL OR NOT has_table_privilege(found, 'SELECT, INSERT')
       ) AS "missingTables",
       ARRAY(SELECT id FROM unnest($2::oid[]) AS id
             WHERE has_database_privilege(session_user, id, 'CONNECT')
               AND id <> (SELECT oid FROM pg_database WHERE datname = current_database())
       ) AS "openDatabases",
       ARRAY(SELECT id FROM unnest($3::oid[]) AS id
             WHERE has_schema_privilege(session_user, id, 'USAGE, CREATE')
               AND id <> (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
       ) AS "openSchemas",
       has_database_privilege(session_user, current_database(), 'CREATE') AS "createsSchemas",
       ${role ? roleRights : "'{}'::text[]"} AS "excessRights",
       ${role ? memberships : "'{}'::text[]"} AS "memberOf"`,
    [requiredTables, databases, schemas],
  );
  const report = rows[0];
  if (report === undefined) throw new Error('the server answered without a row');
  return report;
}

const roleRights = `(SELECT array_remove(ARRAY[
          CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolcreatedb THEN 'CREATEDB' END,
          CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
          CASE WHEN rolreplication THEN 'REPLICATION' END,
          CASE WHEN rolbypassrls THEN 'BYPASSRLS' END], NULL)
        FROM pg_roles WHERE rolname = session_user)`;

const memberships = `ARRAY(SELECT pg_get_userbyid(roleid)::text FROM pg_auth_members
             WHERE member = session_user::regrole)`;

/**
 * Asks, as the admin, for the ids of databases to look at.
 *
 * @param closed databases that must be closed to tenants (the control plane above all)
 * @param markerPrefix beginning of the comment on databases that are ours; the newest are a sample
 */
export async function sampleDatabases(
  client: pg.ClientBase,
  closed: readonly string[],
  markerPrefix: string,
): Promise<number[]> {
  const { rows } = await client.query<{ id: number }>(
    `SELECT oid AS id FROM pg_database WHERE datname = ANY ($1)
     UNION
     (SELECT d.oid FROM pg_database d
       JOIN pg_shdescription s ON s.objoid = d.oid AND s.classoid = 'pg_database'::regclass
      WHERE starts_with(s.description, $2) ORDER BY d.oid DESC LIMIT 20)`,
    [closed, markerPrefix],
  );
  return rows.map(({ id }) => id);
}

/** Asks, as the admin, for the ids of schemas of the connected database to look at, likewise. */
export async function sampleSchemas(
  client: pg.ClientBase,
  markerPrefix: string,
): Promise<number[]> {
  const { rows } = await client.query<{ id: number }>(
    `SELECT oid AS id FROM pg_namespace WHERE nspname = 'public'
     UNION
     (SELECT oid FROM (
        SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY oid DESC LIMIT 20
      ) AS newest WHERE starts_with(obj_description(oid, 'pg_namespace'), $1))`,
    [markerPrefix],
  );
  return rows.map(({ id }) => id);
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
