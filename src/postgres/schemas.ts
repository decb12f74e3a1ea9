import type pg from 'pg';
import {
  createObjectDropper,
  dropEverything,
  listLargeObjects,
  listOwnedObjects,
  listSchemaObjects,
  whileLocked,
} from './drop-objects.ts';
import { quoteIdentifier, quoteLiteral } from './identifiers.ts';
import { withoutBlockersOf, type BlockerOptions, type WithoutBlockers } from './lock-blockers.ts';
import { listPrepared, rollBackPrepared } from './prepared-transactions.ts';
import { inTransactionAs, type AdminClient } from './roles.ts';

export interface SchemaFacts {
  readonly marker: string | null;
}

/** What the connected database has under this name; null when there is no such schema. */
export async function findSchema(client: pg.ClientBase, name: string): Promise<SchemaFacts | null> {
  const { rows } = await client.query<SchemaFacts>(
    `SELECT pg_catalog.obj_description(oid, 'pg_namespace') AS marker
     FROM pg_catalog.pg_namespace WHERE nspname = $1`,
    [name],
  );
  return rows[0] ?? null;
}

/** A schema and who works in it. */
export interface SchemaPlace {
  readonly name: string;
  /** The connected database, and its marker. */
  readonly database: { readonly name: string; readonly marker: string };
  /** Owns what is in the schema, and may make more there; never the schema itself. */
  readonly owner: string;
  /** Comes in as a member of `owner`. */
  readonly login: string;
  /** Schemas that `login` finds things in, this one first. */
  readonly searchPath: readonly string[];
  /** Role whose members may connect to the database; `owner` becomes one. */
  readonly group: string;
  /** Put on the schema as a comment; the owner role carries it already. */
  readonly marker: string;
}

/**
 * Makes a schema for one tenant in one transaction: it belongs to the admin, so that the tenant can
 * neither rename it, nor open it to others, nor forge its marker.
 */
export async function createSchema(client: AdminClient, place: SchemaPlace): Promise<void> {
  const name = quoteIdentifier(place.name);
  await client.query(`
    ${lockRole(place.owner, place.marker)};
    CREATE SCHEMA ${name};
    COMMENT ON SCHEMA ${name} IS ${quoteLiteral(place.marker)};
    ${openSchema(place, client.serverVersion)}`);
}

/**
 * Gives a schema that its tenant owns nothing but the content of its final name, and tells the tenant's
 * login where to look: one transaction.
 */
export async function renameSchema(
  client: pg.ClientBase,
  place: Pick<SchemaPlace, 'name' | 'owner' | 'login' | 'searchPath' | 'marker'> & {
    readonly from: string;
  },
): Promise<void> {
  const name = quoteIdentifier(place.name);
  await client.query(`
    ${lockRole(place.owner, place.marker)};
    ALTER SCHEMA ${quoteIdentifier(place.from)} RENAME TO ${name};
    ${searchIn(place)}`);
}

/** Has a login look into schemas, there or not yet, from its next session on. */
export async function setSearchPath(
  client: pg.ClientBase,
  login: string,
  searchPath: readonly string[],
): Promise<void> {
  await client.query(searchIn({ login, searchPath }));
}

function searchIn({ login, searchPath }: Pick<SchemaPlace, 'login' | 'searchPath'>): string {
  const path = searchPath.map(quoteIdentifier).join(', ');
  return `ALTER ROLE ${quoteIdentifier(login)} SET search_path = ${path}`;
}

/** Gives a schema to its tenant and to no other role, and lets its login find it. */
function openSchema(place: SchemaPlace, serverVersion: number): string {
  const schema = quoteIdentifier(place.name);
  return `
    REVOKE ALL ON SCHEMA ${schema} FROM PUBLIC;
    GRANT USAGE, CREATE ON SCHEMA ${schema} TO ${quoteIdentifier(place.owner)};
    ${searchIn(place)};
    ${joinGroup(place, serverVersion)}`;
}

/**
 * SQL that makes an owner role a member of the group that may connect to the shared database. A right of
 * its own for each tenant would be read by every login to it, and in the end would not fit any more.
 */
export function joinGroup(
  { group, owner }: Pick<SchemaPlace, 'group' | 'owner'>,
  serverVersion: number,
): string {
  // Before 16 a member can always work as the group; it owns nothing, and has no other right.
  const options = serverVersion >= 16 ? ' WITH INHERIT TRUE, SET FALSE' : '';
  return `GRANT ${quoteIdentifier(group)} TO ${quoteIdentifier(owner)}${options}`;
}

/** Whether a role itself was given CONNECT and TEMPORARY on a database. */
export async function mayConnect(
  client: pg.ClientBase,
  { database, role }: { readonly database: string; readonly role: string },
): Promise<boolean> {
  const { rows } = await client.query(
    `SELECT acl.privilege_type
     FROM pg_catalog.pg_database db CROSS JOIN pg_catalog.aclexplode(db.datacl) AS acl
     JOIN pg_catalog.pg_roles r ON r.oid = acl.grantee
     WHERE db.datname = $1 AND r.rolname = $2
       AND acl.privilege_type IN ('CONNECT', 'TEMPORARY')`,
    [database, role],
  );
  return rows.length === 2;
}

/**
 * Takes from members of a group what they were given on a database of the admin's: the group has it.
 */
export async function leaveToGroup(
  client: pg.ClientBase,
  { database, group }: { readonly database: string; readonly group: string },
  withoutBlockers: WithoutBlockers,
): Promise<void> {
  const { rows } = await client.query<{ member: string }>(
    `SELECT DISTINCT pg_catalog.pg_get_userbyid(acl.grantee)::pg_catalog.text AS member
     FROM pg_catalog.pg_database db CROSS JOIN pg_catalog.aclexplode(db.datacl) AS acl
     JOIN pg_catalog.pg_auth_members m ON m.member = acl.grantee
     JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
     WHERE db.datname = $1 AND g.rolname = $2 AND acl.grantee <> db.datdba`,
    [database, group],
  );
  if (rows.length === 0) return;
  const members = rows.map(({ member }) => quoteIdentifier(member)).join(', ');
  await withoutBlockers(() =>
    client.query(`REVOKE ALL ON DATABASE ${quoteIdentifier(database)} FROM ${members}`),
  );
}

// Advisory locks are no good here: they belong to a database, and whoever may connect to it may take
// them, other tenants too. A comment locks what it is put on against other comments, all over the
// server and until the transaction ends, and only its owner or administrator gets that far.

/**
 * SQL that keeps others from changing a tenant's place until the transaction ends, and fails once its
 * owner role is gone: so a statement whose client was cut off makes nothing after the undo.
 */
function lockRole(role: string, marker: string): string {
  return `COMMENT ON ROLE ${quoteIdentifier(role)} IS ${quoteLiteral(marker)}`;
}

/** SQL that serializes GRANT and REVOKE on one database: at once, all but one of them would fail. */
function lockDatabase({ name, marker }: SchemaPlace['database']): string {
  return `COMMENT ON DATABASE ${quoteIdentifier(name)} IS ${quoteLiteral(marker)}`;
}

/** What dropping a schema needs to know beside where it is. */
export interface SchemaDrop extends Omit<SchemaPlace, 'login' | 'searchPath' | 'group'> {
  /** Beginning of the marker that a schema of this tenant has. */
  readonly markerPrefix: string;
  /** The tenant's roles that exist: what they own anywhere in the database goes too. */
  readonly roles: readonly string[];
  /** Beginning of the marker of roles whose sessions may be ended where they hold the drop up. */
  readonly blockerPrefix: string;
  /** Runs a look on another session of the admin. */
  readonly observe: BlockerOptions['observe'];
}

// A lock that is not there by then is held on purpose, or by a session that has been ended meanwhile.
const lockTimeoutMs = 2_000;
// Each is a small transaction of the server's.
const largeObjectsAtOnce = 500;

/**
 * Drops a schema with all that is in it, in transactions that fit the server's table of locks, then what
 * the tenant's roles own elsewhere in the database (large objects above all), and takes their rights on
 * the database. Absent, or without a marker that begins with `markerPrefix`, the schema stays as it is.
 * The admin owns it, which is enough to drop what others own in it. Sessions of the tenant have to be
 * ended before; those of others that hold its objects locked are ended.
 *
 * @throws Error when it is still there afterwards
 */
export async function dropSchema(client: AdminClient, place: SchemaDrop): Promise<void> {
  const { database, name, owner, roles } = place;
  const isOurs = async (): Promise<boolean> =>
    (await findSchema(client, name))?.marker?.startsWith(place.markerPrefix) === true;
  await rollBackPrepared(client, await listPrepared(client, database.name, roles));
  const withoutBlockers = withoutBlockersOf({
    client,
    database: database.name,
    observe: place.observe,
    markerPrefix: place.blockerPrefix,
  });
  const dropper = await createObjectDropper(client, {
    schema: name,
    owners: roles,
    lockTimeoutMs,
    withoutBlockers,
  });
  if (await isOurs()) await dropEverything(dropper, () => listSchemaObjects(client, name));
  await dropEverything(dropper, () => listLargeObjects(client, roles), largeObjectsAtOnce);
  await dropEverything(dropper, () => listOwnedObjects(client, roles));
  const ownerExists = roles.includes(owner);
  const dropRest = async (): Promise<void> => {
    // A statement that makes it may still be under way for a client that was cut off: it has ended now.
    if (ownerExists) await client.query(lockRole(owner, place.marker));
    await client.query(
      `SET LOCAL lock_timeout = ${lockTimeoutMs}; SET LOCAL client_min_messages = error`,
    );
    if (await isOurs()) await client.query(`DROP SCHEMA ${quoteIdentifier(name)} CASCADE`);
    if (ownerExists) {
      await client.query(`${lockDatabase(database)};
        REVOKE ALL ON DATABASE ${quoteIdentifier(database.name)} FROM ${quoteIdentifier(owner)}`);
    }
  };
  await whileLocked(() => inTransactionAs(client, [], dropRest), { withoutBlockers });
  if (await isOurs()) throw new Error('the schema is still there after DROP SCHEMA');
}

/**
 * What a tenant's roles own in the connected database that they should not; null: nothing.
 *
 * @param owner owns what lies in `schema`; in a database of its own, with no schema given, anything
 * @param service owns nothing at all: it works as the owner
 */
export async function ownedElsewhere(
  client: pg.ClientBase,
  { owner, service }: { readonly owner: string; readonly service: string },
  schema: string | null,
): Promise<string | null> {
  const { rows } = await client.query<{ what: string }>(
    `SELECT pg_catalog.format('%s %s', i.type, i.identity) AS what
     FROM pg_catalog.pg_shdepend d
     JOIN pg_catalog.pg_database ON d.dbid = pg_database.oid
     JOIN pg_catalog.pg_roles role ON role.oid = d.refobjid,
          pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) AS i
     WHERE datname = pg_catalog.current_database() AND d.deptype = 'o'
       AND d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
       AND (role.rolname = $2 OR role.rolname = $1 AND $3::pg_catalog.text IS NOT NULL
         -- Default rights lie in no schema, and a session's temporary tables go with it.
         AND d.classid <> 'pg_catalog.pg_default_acl'::pg_catalog.regclass
         AND coalesce(i.schema, '') <> pg_catalog.quote_ident($3)
         AND NOT pg_catalog.starts_with(coalesce(i.schema, ''), 'pg_temp')) LIMIT 1`,
    [owner, service, schema],
  );
  return rows[0]?.what ?? null;
}

/**
 * Bytes on disk of all relations in a schema of the connected database; null when there is none.
 *
 * @throws lock_not_available when one of them stays locked
 */
export async function schemaSize(client: pg.ClientBase, name: string): Promise<number | null> {
  // To be measured, a table is locked; one that its tenant alters must not hold up whoever asks.
  await client.query(`SET lock_timeout = '1s'`);
  const { rows } = await client.query<{ size: string }>(
    `SELECT (SELECT coalesce(pg_catalog.sum(pg_catalog.pg_total_relation_size(c.oid)), 0)
             FROM pg_catalog.pg_class c
             WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'm', 'S'))::pg_catalog.text AS size
     FROM pg_catalog.pg_namespace n WHERE n.nspname = $1`,
    [name],
  );
  return rows[0] === undefined ? null : Number(rows[0].size);
}
