import type pg from 'pg';
import { printableName } from './printable.ts';

const given: Readonly<Record<string, string>> = {
  a: 'rights on',
  o: 'ownership of',
  r: 'policies on',
  i: 'initial privileges on',
};

const kinds: Readonly<Record<string, string>> = {
  pg_class: 'tables, views or sequences',
  pg_proc: 'functions',
  pg_type: 'types',
  pg_namespace: 'schemas',
  pg_largeobject: 'large objects',
  pg_policy: 'tables',
  pg_default_acl: 'what is created later',
  pg_database: 'databases',
};

// Objects that are counted for one role, and places that are named.
const most = 1_000;
const mostNamed = 3;

/**
 * Tells what keeps roles from being dropped, by the role's name, in a bounded text: which databases, and
 * what kinds of objects in them; null: nothing does that the catalogs show. Roles that do not exist are
 * left out.
 */
export async function describeHolders(
  client: pg.ClientBase,
  names: readonly string[],
): Promise<ReadonlyMap<string, string | null>> {
  const { rows } = await client.query<{
    role: string;
    database: string | null;
    open: boolean | null;
    deptype: string | null;
    kind: string | null;
    count: number;
  }>(
    `SELECT r.rolname::pg_catalog.text AS role, db.datname::pg_catalog.text AS database,
       db.datallowconn AS open, held.deptype, c.relname::pg_catalog.text AS kind,
       pg_catalog.count(held.dbid)::pg_catalog.int4 AS count
     FROM pg_catalog.pg_roles r
     LEFT JOIN LATERAL (
       SELECT d.dbid, d.classid, d.deptype::pg_catalog.text FROM pg_catalog.pg_shdepend d
       WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.refobjid = r.oid
       LIMIT $2) AS held ON true
     LEFT JOIN pg_catalog.pg_database db ON db.oid = held.dbid
     LEFT JOIN pg_catalog.pg_class c ON c.oid = held.classid
     WHERE r.rolname = ANY ($1::pg_catalog.name[])
     GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 6 DESC, 2, 4, 5`,
    [names, most],
  );
  const byRole = Map.groupBy(rows, ({ role }) => role);
  return new Map(
    [...byRole].map(([role, held]) => {
      const places = held.flatMap(({ count, database, deptype, kind, open }) => {
        if (deptype === null) return [];
        const what = `${given[deptype] ?? 'a hold on'} ${kinds[kind ?? ''] ?? 'other objects'}`;
        const where = database === null ? '' : ` in database ${printableName(database)}`;
        const closed = open === false ? ', which accepts no connections' : '';
        return [`${what}${where} (${count >= most ? `${most} or more` : count})${closed}`];
      });
      if (places.length === 0) return [role, null];
      const more = places.length - mostNamed;
      const named = places.slice(0, mostNamed).join('; ');
      return [role, `it still has ${named}${more > 0 ? `; and ${more} more` : ''}`];
    }),
  );
}
