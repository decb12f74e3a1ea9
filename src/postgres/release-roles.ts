import type pg from 'pg';
import { createObjectDropper, dropEverything, listOwnedObjects } from './drop-objects.ts';
import { codeOf, PassingError } from './error-codes.ts';
import { quoteIdentifier } from './identifiers.ts';
import { describeObjects, revokeStatement, type ObjectRef } from './object-ddl.ts';
import { existingRoles, inTransactionAs, type AdminClient } from './roles.ts';

/** How long a release may take. */
export interface ReleaseLimits {
  /** Epoch milliseconds after which nothing more is begun. */
  readonly until: number;
}

const lockTimeoutMs = 500;
const listAtOnce = 200;
const statementsAtOnce = 50;
// Each costs the lock's timeout: what is left is for the next try.
const mostLocked = 3;
// What is left for DROP OWNED, which is one transaction.
const fewLeft = 500;

/**
 * Takes from roles, in the connected database, the rights and policies that others gave them, and drops
 * what they own there: piece by piece, so that what is done stays done when the rest is held locked.
 *
 * @throws the error of a connection that broke; what others hold locked is left
 */
export async function releaseRoles(
  client: AdminClient,
  names: readonly string[],
  { until }: ReleaseLimits,
): Promise<void> {
  await client.query(
    `SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false),
       pg_catalog.set_config('statement_timeout', $1, false)`,
    [String(Math.max(500, until - Date.now()))],
  );
  await releaseRights(client, names, until);
  const dropper = await createObjectDropper(client, {
    schema: null,
    owners: names,
    lockTimeoutMs,
    until,
  });
  await unlessHeld(() => dropEverything(dropper, () => listOwnedObjects(client, names)));
  if (Date.now() > until || (await countLeft(client, names)) > fewLeft) return;
  // Default privileges that are not in a schema, initial privileges, and what later versions may add.
  const roles = [...(await existingRoles(client, names))];
  if (roles.length === 0) return;
  const statement = `DROP OWNED BY ${roles.map(quoteIdentifier).join(', ')}`;
  await unlessHeld(() => run(client, { owners: roles, text: statement }));
}

interface Statement {
  /** Roles that the admin has to be a member of. */
  readonly owners: readonly string[];
  readonly text: string;
}

function run(client: AdminClient, { owners, text }: Statement): Promise<void> {
  return inTransactionAs(client, owners, async () => {
    await client.query(
      `SET LOCAL lock_timeout = ${lockTimeoutMs}; SET LOCAL client_min_messages = error; ${text}`,
    );
  });
}

/** @returns false where another session holds it, or the server refuses */
async function unlessHeld(work: () => Promise<void>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    if (error instanceof PassingError) return false;
    const code = codeOf(error);
    if (code === undefined || code.startsWith('57P') || code.startsWith('08')) throw error;
    return false;
  }
}

async function releaseRights(
  client: AdminClient,
  names: readonly string[],
  until: number,
): Promise<void> {
  let locked = 0;
  let batches = 0;
  // However late it is, each try comes a batch further.
  const expired = (): boolean => batches > 0 && Date.now() > until;
  const left: number[] = [];
  while (!expired() && locked < mostLocked) {
    const given = await listGiven(client, names, left);
    if (given.length === 0) return;
    const statements = await statementsFor(client, names, given);
    for (let start = 0; start < statements.length; start += statementsAtOnce) {
      if (expired()) return;
      const batch = statements.slice(start, start + statementsAtOnce);
      const together = {
        owners: [...new Set(batch.flatMap(({ owners }) => owners))],
        text: batch.map(({ text }) => text).join(';\n'),
      };
      batches += 1;
      if (await unlessHeld(() => run(client, together))) continue;
      for (const statement of batch) {
        if (expired() || locked >= mostLocked) return;
        if (!(await unlessHeld(() => run(client, statement)))) locked += 1;
      }
    }
    left.push(...given.map(({ objid }) => objid)); // what is still there cannot be taken now
  }
}

/** What others gave to roles: entries in access lists, and policies. */
async function listGiven(
  client: pg.ClientBase,
  names: readonly string[],
  except: readonly number[],
): Promise<ObjectRef[]> {
  const { rows } = await client.query<ObjectRef>(
    `SELECT DISTINCT d.classid, d.objid, 0 AS subid FROM pg_catalog.pg_roles r
     JOIN pg_catalog.pg_shdepend d
       ON d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.refobjid = r.oid
     WHERE r.rolname = ANY ($1::pg_catalog.name[])
       AND (d.deptype IN ('a', 'r')
         OR d.deptype = 'o' AND d.classid = 'pg_catalog.pg_default_acl'::pg_catalog.regclass)
       AND d.dbid = (SELECT db.oid FROM pg_catalog.pg_database db
                     WHERE db.datname = pg_catalog.current_database())
       AND d.objid <> ALL ($2::pg_catalog.oid[]) LIMIT $3`,
    [names, except, listAtOnce],
  );
  return rows;
}

async function statementsFor(
  client: pg.ClientBase,
  names: readonly string[],
  refs: readonly ObjectRef[],
): Promise<Statement[]> {
  const ids = refs.map(({ objid }) => objid);
  const existing = [...(await existingRoles(client, names))].map(quoteIdentifier).join(', ');
  if (existing === '') return [];
  const objects = await describeObjects(client, refs);
  const grantors = await otherGrantors(client, names, ids);
  return [
    ...objects.flatMap((object): Statement[] => {
      const text = revokeStatement(object, existing);
      if (text === null) return [];
      const givers = grantors.get(object.objid) ?? [];
      const asOthers = givers.map((giver) => {
        return `;\nSET LOCAL ROLE ${quoteIdentifier(giver)}; ${text}; RESET ROLE`;
      });
      const owners = object.owner === null ? [] : [object.owner];
      return [{ owners: [...owners, ...givers], text: text + asOthers.join('') }];
    }),
    ...(await policyStatements(client, names, ids)),
    ...(await defaultPrivilegeStatements(client, names, ids)),
  ];
}

/** Roles other than the owner that passed a right on: it goes in their name alone. */
async function otherGrantors(
  client: pg.ClientBase,
  names: readonly string[],
  ids: readonly number[],
): Promise<ReadonlyMap<number, readonly string[]>> {
  const { rows } = await client.query<{ objid: number; grantors: string[] }>(
    `SELECT object.oid AS objid, pg_catalog.array_agg(DISTINCT giver.rolname::pg_catalog.text) AS grantors
     FROM (
       SELECT oid, relowner AS owner, relacl AS acl FROM pg_catalog.pg_class WHERE oid = ANY ($2)
       UNION ALL SELECT c.oid, c.relowner, a.attacl FROM pg_catalog.pg_attribute a
         JOIN pg_catalog.pg_class c ON c.oid = a.attrelid WHERE c.oid = ANY ($2)
       UNION ALL SELECT oid, proowner, proacl FROM pg_catalog.pg_proc WHERE oid = ANY ($2)
       UNION ALL SELECT oid, typowner, typacl FROM pg_catalog.pg_type WHERE oid = ANY ($2)
       UNION ALL SELECT oid, nspowner, nspacl FROM pg_catalog.pg_namespace WHERE oid = ANY ($2)
       UNION ALL SELECT oid, lomowner, lomacl FROM pg_catalog.pg_largeobject_metadata
         WHERE oid = ANY ($2)
       UNION ALL SELECT oid, srvowner, srvacl FROM pg_catalog.pg_foreign_server WHERE oid = ANY ($2)
     ) AS object (oid, owner, acl)
     CROSS JOIN LATERAL pg_catalog.aclexplode(object.acl) AS given
     JOIN pg_catalog.pg_roles giver ON giver.oid = given.grantor
     JOIN pg_catalog.pg_roles taker ON taker.oid = given.grantee
     WHERE taker.rolname = ANY ($1::pg_catalog.name[]) AND given.grantor <> object.owner
       AND giver.rolname <> ALL ($1::pg_catalog.name[]) AND NOT giver.rolsuper
     GROUP BY object.oid`,
    [names, ids],
  );
  return new Map(rows.map(({ grantors, objid }) => [objid, grantors]));
}

/** A policy for these roles alone is dropped, as DROP OWNED does. */
async function policyStatements(
  client: pg.ClientBase,
  names: readonly string[],
  ids: readonly number[],
): Promise<Statement[]> {
  const { rows } = await client.query<{
    owner: string | null;
    policy: string;
    others: string | null;
  }>(
    `SELECT CASE WHEN NOT owner.rolsuper THEN owner.rolname::pg_catalog.text END AS owner,
       pg_catalog.format('%I ON %I.%I', p.polname, n.nspname, c.relname) AS policy,
       (SELECT pg_catalog.string_agg(
          CASE WHEN r.rolname IS NULL THEN 'PUBLIC' ELSE pg_catalog.quote_ident(r.rolname) END, ', ')
        FROM pg_catalog.unnest(p.polroles) AS role (oid)
        LEFT JOIN pg_catalog.pg_roles r ON r.oid = role.oid
        WHERE r.rolname IS NULL OR r.rolname <> ALL ($1::pg_catalog.name[])) AS others
     FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_catalog.pg_roles owner ON owner.oid = c.relowner
     WHERE p.oid = ANY ($2)`,
    [names, ids],
  );
  return rows.map(({ others, owner, policy }) => ({
    owners: owner === null ? [] : [owner],
    text:
      others === null ? `DROP POLICY IF EXISTS ${policy}` : `ALTER POLICY ${policy} TO ${others}`,
  }));
}

/** Default privileges in favour of these roles, and those of these roles in a schema. */
async function defaultPrivilegeStatements(
  client: pg.ClientBase,
  names: readonly string[],
  ids: readonly number[],
): Promise<Statement[]> {
  const { rows } = await client.query<{ owner: string; isSuperuser: boolean; text: string }>(
    `SELECT DISTINCT owner.rolname::pg_catalog.text AS owner, owner.rolsuper AS "isSuperuser",
       pg_catalog.format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE ALL ON %s FROM %s CASCADE',
         owner.rolname, ' IN SCHEMA ' || pg_catalog.quote_ident(n.nspname),
         CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES'
           WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS'
           WHEN 'L' THEN 'LARGE OBJECTS' END,
         CASE WHEN taker.rolname IS NULL THEN 'PUBLIC'
           ELSE pg_catalog.quote_ident(taker.rolname) END) AS text
     FROM pg_catalog.pg_default_acl d
     JOIN pg_catalog.pg_roles owner ON owner.oid = d.defaclrole
     LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace
     CROSS JOIN LATERAL pg_catalog.aclexplode(d.defaclacl) AS given
     LEFT JOIN pg_catalog.pg_roles taker ON taker.oid = given.grantee
     WHERE d.oid = ANY ($2) AND (taker.rolname = ANY ($1::pg_catalog.name[])
       OR owner.rolname = ANY ($1::pg_catalog.name[]) AND n.oid IS NOT NULL)`,
    [names, ids],
  );
  return rows.map(({ isSuperuser, owner, text }) => ({ owners: isSuperuser ? [] : [owner], text }));
}

async function countLeft(client: pg.ClientBase, names: readonly string[]): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    `SELECT pg_catalog.count(*)::pg_catalog.int4 AS count FROM (
       SELECT FROM pg_catalog.pg_roles r JOIN pg_catalog.pg_shdepend d
         ON d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.refobjid = r.oid
       WHERE r.rolname = ANY ($1::pg_catalog.name[]) AND d.dbid IN (0, (SELECT db.oid
         FROM pg_catalog.pg_database db WHERE db.datname = pg_catalog.current_database()))
       LIMIT $2) AS found`,
    [names, fewLeft + 1],
  );
  return rows[0]?.count ?? 0;
}
