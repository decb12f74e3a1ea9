import type pg from 'pg';
import { quoteIdentifier } from './identifiers.ts';

/** What a tenant's credentials come to, as their own session sees it. */
export interface ReachReport {
  readonly database: string;
  /** The schema that is searched first; null: none that there is. */
  readonly schema: string | null;
  /** Of the tables asked for, those that these credentials do not see in the tenant's schema. */
  readonly missingTables: readonly string[];
  /**
   * Schemas other than the one searched first that they may work in, of those looked at, by their ids;
   * those that are gone by now count as closed.
   */
  readonly openSchemas: readonly number[];
}

/**
 * Asks the server, as the connected tenant, what these credentials come to: one query, since each round
 * trip is paid by everyone who waits for a tenant, and made of functions alone: a new session has to
 * read the catalogs of whatever else it is asked, which takes it longer than the login.
 *
 * @param schema the tenant's own, in which the required tables are looked for
 * @param schemas schemas of this database to look at, by their ids
 */
export async function reportReach(
  client: pg.ClientBase,
  schema: string,
  requiredTables: readonly string[],
  schemas: readonly number[] = [],
): Promise<ReachReport> {
  // Their names are put together here: operators are what a new session looks up the longest.
  const names = requiredTables.map(
    (table) => `${quoteIdentifier(schema)}.${quoteIdentifier(table)}`,
  );
  const tables = names.map(
    (_, index) =>
      `, pg_catalog.has_table_privilege(pg_catalog.to_regclass($${index + 1}), 'SELECT, INSERT') AS table_${index}`,
  );
  const open =
    schemas.length === 0
      ? ''
      : `, ARRAY(SELECT id FROM pg_catalog.unnest($${names.length + 1}::pg_catalog.oid[]) AS id
           WHERE pg_catalog.has_schema_privilege(session_user, id, 'USAGE, CREATE')
             AND id <> (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = pg_catalog.current_schema())) AS "openSchemas"`;
  const { rows } = await client.query<
    Omit<ReachReport, 'missingTables' | 'openSchemas'> &
      Readonly<Record<`table_${number}`, boolean | null>> & { readonly openSchemas?: number[] }
  >(
    `SELECT pg_catalog.current_database() AS database, pg_catalog.current_schema() AS schema${tables.join('')}${open}`,
    schemas.length === 0 ? names : [...names, schemas],
  );
  const row = rows[0];
  if (row === undefined) throw new Error('the server answered without a row');
  const { database, openSchemas = [], schema: searched } = row;
  const missingTables = requiredTables.filter((_, index) => row[`table_${index}`] !== true);
  return { database, schema: searched, missingTables, openSchemas };
}

/** What the roles of a tenant may do that is no matter of one database's content. */
export interface RightsReport {
  /** Databases other than its own that the login may open, of those looked at, by their ids. */
  readonly openDatabases: readonly number[];
  /** Whether it may make schemas in its own. */
  readonly createsSchemas: boolean;
  /** Rights that a tenant's login must not have, by their names in pg_roles. */
  readonly excessRights: readonly string[];
  /** Roles that the login or its owner role is a member of, but for the owner role itself and the group. */
  readonly memberOf: readonly string[];
}

/** Of whom to ask. */
export interface RightsQuestion {
  readonly login: string;
  readonly owner: string;
  /** The tenant's own database. */
  readonly database: string;
  /** Role whose members may connect to a database that tenants share; null: it is the tenant's alone. */
  readonly group: string | null;
}

/**
 * Asks the server's privilege functions, from any session in any database: one that has been asked
 * before knows the catalogs.
 *
 * @param databases to look at, by their ids; those that are gone by now count as closed
 * @returns in the order of the questions; null where the login or the database is not there
 */
export async function reportRights(
  client: pg.ClientBase,
  questions: readonly RightsQuestion[],
  databases: readonly number[],
): Promise<(RightsReport | null)[]> {
  const { rows } = await client.query<RightsReport & { readonly place: number }>({
    name: 'report_rights',
    text: `SELECT place::integer,
       ARRAY(SELECT id FROM pg_catalog.unnest($4::pg_catalog.oid[]) AS id
             WHERE pg_catalog.has_database_privilege(login.oid, id, 'CONNECT') AND id <> own.oid) AS "openDatabases",
       pg_catalog.has_database_privilege(login.oid, own.oid, 'CREATE') AS "createsSchemas",
       pg_catalog.array_remove(ARRAY[
         CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolcreatedb THEN 'CREATEDB' END,
         CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
         CASE WHEN rolreplication THEN 'REPLICATION' END,
         CASE WHEN rolbypassrls THEN 'BYPASSRLS' END], NULL) AS "excessRights",
       ARRAY(SELECT role.rolname::pg_catalog.text FROM pg_catalog.pg_auth_members
             JOIN pg_catalog.pg_roles role ON role.oid = roleid JOIN pg_catalog.pg_roles owner ON owner.rolname = asked.owner
             WHERE member IN (login.oid, owner.oid) AND roleid <> owner.oid
               AND role.rolname IS DISTINCT FROM asked.allowed) AS "memberOf"
     FROM ROWS FROM (
         pg_catalog.unnest($1::pg_catalog.name[]), pg_catalog.unnest($2::pg_catalog.name[]),
         pg_catalog.unnest($3::pg_catalog.name[]), pg_catalog.unnest($5::pg_catalog.name[])) WITH ORDINALITY
       AS asked (login, owner, database, allowed, place)
     JOIN pg_catalog.pg_roles login ON login.rolname = asked.login
     JOIN pg_catalog.pg_database own ON own.datname = asked.database`,
    values: [
      questions.map(({ login }) => login),
      questions.map(({ owner }) => owner),
      questions.map(({ database }) => database),
      databases,
      questions.map(({ group }) => group),
    ],
  });
  return questions.map((_, index) => rows.find(({ place }) => place === index + 1) ?? null);
}

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
    `SELECT oid AS id FROM pg_catalog.pg_database WHERE datname = ANY ($1)
     UNION
     (SELECT d.oid FROM pg_catalog.pg_database d
       JOIN pg_catalog.pg_shdescription s ON s.objoid = d.oid AND s.classoid = 'pg_catalog.pg_database'::pg_catalog.regclass
      WHERE pg_catalog.starts_with(s.description, $2) ORDER BY d.oid DESC LIMIT 20)`,
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
    `SELECT oid AS id FROM pg_catalog.pg_namespace WHERE nspname = 'public'
     UNION
     (SELECT oid FROM (
        SELECT oid FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' ORDER BY oid DESC LIMIT 20
      ) AS newest WHERE pg_catalog.starts_with(pg_catalog.obj_description(oid, 'pg_namespace'), $1))`,
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
            pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') OR pg_catalog.cardinality($1::pg_catalog.text[]) > 0
              AND pg_catalog.cardinality($1::pg_catalog.text[]) = (SELECT pg_catalog.count(*) FROM pg_catalog.pg_namespace
                WHERE nspname = ANY ($1) AND pg_catalog.has_schema_privilege(oid, 'USAGE')) AS "createSchema"
     FROM pg_catalog.pg_roles WHERE rolname = current_user`,
    [schemas],
  );
  const rights = rows[0];
  if (rights === undefined) throw new Error('the server answered without a row');
  return rights;
}
