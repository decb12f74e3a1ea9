import type pg from 'pg';
import { quoteIdentifier, quoteLiteral } from './identifiers.ts';

/**
 * Makes everything in the connected database that refers to the role `from` refer to `to`: owners, and
 * rights with them, by `REASSIGN OWNED`; policies and default privileges, which that leaves alone, one by
 * one. The session works as a member of both roles.
 *
 * @returns what still refers to `from`, at most ten, as `type identity`: nothing, unless others than the
 *   migrations of a template have worked in the database
 */
export async function handOver(
  client: pg.ClientBase,
  from: string,
  to: string,
): Promise<readonly string[]> {
  const role = quoteIdentifier(from);
  // One round trip for what most templates come to: nothing but owners.
  const [, left] = (await client.query(
    `REASSIGN OWNED BY ${role} TO ${quoteIdentifier(to)}; ${countReferences(from)}`,
  )) as unknown as [unknown, pg.QueryResult<{ references: number }>];
  if ((left.rows[0]?.references ?? 0) === 0) return [];
  await movePolicies(client, from, to);
  await moveDefaultPrivileges(client, from, to);
  return describeReferences(client, from);
}

/**
 * The same for a database that no tenant has worked in yet.
 *
 * @throws Error naming what still refers to `from`
 */
export async function handOverWhole(
  client: pg.ClientBase,
  from: string,
  to: string,
): Promise<void> {
  const left = await handOver(client, from, to);
  if (left.length > 0) throw new Error(`${left.join(', ')} still refers to the role ${from}`);
}

const isReference = (roleId: string): string => `
  refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND refobjid = ${roleId}
  AND dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())`;

function countReferences(role: string): string {
  const literal = quoteLiteral(quoteIdentifier(role));
  return `SELECT pg_catalog.count(*)::pg_catalog.int4 AS references FROM pg_catalog.pg_shdepend
    WHERE ${isReference(`${literal}::pg_catalog.regrole`)}`;
}

/** Roles whose name begins with `prefix` and to which something in the connected database refers. */
export async function rolesReferredTo(client: pg.ClientBase, prefix: string): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT rolname::pg_catalog.text AS name FROM pg_catalog.pg_roles role
     WHERE pg_catalog.starts_with(rolname::pg_catalog.text, $1) AND EXISTS (
       SELECT FROM pg_catalog.pg_shdepend WHERE ${isReference('role.oid')})`,
    [prefix],
  );
  return rows.map(({ name }) => name);
}

/** What in the connected database refers to a role, at most ten. */
async function describeReferences(client: pg.ClientBase, role: string): Promise<string[]> {
  const { rows } = await client.query<{ what: string }>(
    `SELECT pg_catalog.left(pg_catalog.format('%s %s', i.type, i.identity), 200) AS what
     FROM pg_catalog.pg_shdepend,
          pg_catalog.pg_identify_object(classid, objid, objsubid) AS i
     WHERE ${isReference('pg_catalog.to_regrole($1)')} LIMIT 10`,
    [quoteIdentifier(role)],
  );
  return rows.map(({ what }) => what);
}

/**
 * Finds what `handOver` could not move: what is no owner, right or policy of something that the role
 * itself owns, and user mappings.
 *
 * @returns the first one as `type identity`; null when all can be moved
 */
export async function findUnmovable(client: pg.ClientBase, role: string): Promise<string | null> {
  const { rows } = await client.query<{ what: string }>(
    `SELECT pg_catalog.left(pg_catalog.format('%s %s', i.type, i.identity), 200) AS what
     FROM pg_catalog.pg_shdepend reference,
          pg_catalog.pg_identify_object(classid, objid, objsubid) AS i
     WHERE ${isReference('pg_catalog.to_regrole($1)')}
       AND NOT (deptype = 'r'
         OR deptype = 'o' AND classid <> 'pg_catalog.pg_user_mapping'::pg_catalog.regclass
         OR deptype = 'a' AND EXISTS (SELECT FROM pg_catalog.pg_shdepend owner
           WHERE owner.dbid = reference.dbid AND owner.classid = reference.classid
             AND owner.objid = reference.objid AND owner.deptype = 'o'
             AND owner.refclassid = reference.refclassid AND owner.refobjid = reference.refobjid))
     LIMIT 1`,
    [quoteIdentifier(role)],
  );
  return rows[0]?.what ?? null;
}

async function movePolicies(client: pg.ClientBase, from: string, to: string): Promise<void> {
  const { rows } = await client.query<{ statement: string }>(
    `SELECT pg_catalog.format('ALTER POLICY %I ON %I.%I TO %s', polname, nspname, relname,
              (SELECT pg_catalog.string_agg(CASE role
                 WHEN 0 THEN 'PUBLIC' WHEN pg_catalog.to_regrole($1) THEN $2
                 ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(role)) END, ', ')
               FROM pg_catalog.unnest(polroles) AS role)) AS statement
     FROM pg_catalog.pg_policy
     JOIN pg_catalog.pg_class ON pg_class.oid = polrelid
     JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
     WHERE pg_catalog.to_regrole($1) = ANY (polroles) ORDER BY pg_policy.oid`,
    [quoteIdentifier(from), quoteIdentifier(to)],
  );
  for (const { statement } of rows) await client.query(statement);
}

const objectKinds: Readonly<Record<string, string>> = {
  r: 'TABLES',
  S: 'SEQUENCES',
  f: 'FUNCTIONS',
  T: 'TYPES',
  n: 'SCHEMAS',
  L: 'LARGE OBJECTS',
};

/** What everybody may do with new objects of a kind as long as no default privileges say otherwise. */
const rightsOfAll: Readonly<Record<string, string>> = { f: 'EXECUTE', T: 'USAGE' };

interface DefaultPrivileges {
  readonly kind: string;
  /** Null: everywhere. */
  readonly schema: string | null;
  readonly grants: readonly {
    /** Null: PUBLIC. */
    readonly grantee: string | null;
    readonly privilege: string;
    readonly grantable: boolean;
  }[];
}

/**
 * Gives `to` the default privileges of `from`, and takes them from it. Those of one schema only add to
 * what is so anyway; those for everywhere are the whole truth, so that `to` begins with nothing there.
 */
async function moveDefaultPrivileges(
  client: pg.ClientBase,
  from: string,
  to: string,
): Promise<void> {
  const { rows } = await client.query<DefaultPrivileges>(
    `SELECT defaclobjtype::pg_catalog.text AS kind, nspname::pg_catalog.text AS schema, (
       SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
         'grantee', CASE grantee WHEN 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(grantee) END,
         'privilege', privilege_type, 'grantable', is_grantable)), '[]'::pg_catalog.json)
       FROM pg_catalog.aclexplode(defaclacl)) AS grants
     FROM pg_catalog.pg_default_acl
     LEFT JOIN pg_catalog.pg_namespace ON pg_namespace.oid = defaclnamespace
     WHERE defaclrole = pg_catalog.to_regrole($1)`,
    [quoteIdentifier(from)],
  );
  if (rows.length === 0) return;
  for (const { grants, kind, schema } of rows) {
    const objects = objectKinds[kind];
    if (objects === undefined) throw new Error(`default privileges of an unknown kind, ${kind}`);
    const place = schema === null ? '' : `IN SCHEMA ${quoteIdentifier(schema)}`;
    const alter = `ALTER DEFAULT PRIVILEGES FOR ROLE ${quoteIdentifier(to)} ${place}`;
    if (schema === null) {
      await client.query(`${alter} REVOKE ALL ON ${objects} FROM PUBLIC, ${quoteIdentifier(to)}`);
    }
    for (const { grantable, grantee, privilege } of grants) {
      const name = grantee === from ? to : grantee;
      await client.query(
        `${alter} GRANT ${privilege} ON ${objects} TO ${name === null ? 'PUBLIC' : quoteIdentifier(name)}
         ${grantable ? 'WITH GRANT OPTION' : ''}`,
      );
    }
  }
  for (const privileges of rows) await clearDefaultPrivileges(client, from, privileges);
}

/**
 * Sets default privileges back to what a new role has, which removes their entry. DROP OWNED would do it at
 * once, and take the role's rights on other databases with it.
 */
async function clearDefaultPrivileges(
  client: pg.ClientBase,
  role: string,
  { grants, kind, schema }: DefaultPrivileges,
): Promise<void> {
  const objects = objectKinds[kind] ?? '';
  const place = schema === null ? '' : `IN SCHEMA ${quoteIdentifier(schema)}`;
  const alter = `ALTER DEFAULT PRIVILEGES FOR ROLE ${quoteIdentifier(role)} ${place}`;
  const grantees = new Set(grants.map(({ grantee }) => grantee));
  for (const grantee of grantees) {
    await client.query(
      `${alter} REVOKE ALL ON ${objects} FROM ${grantee === null ? 'PUBLIC' : quoteIdentifier(grantee)}`,
    );
  }
  if (schema !== null) return;
  await client.query(`${alter} GRANT ALL ON ${objects} TO ${quoteIdentifier(role)}`);
  const forAll = rightsOfAll[kind];
  if (forAll !== undefined) await client.query(`${alter} GRANT ${forAll} ON ${objects} TO PUBLIC`);
}
