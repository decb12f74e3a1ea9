import type pg from 'pg';
import type { ObjectRef } from './object-ddl.ts';

// What CASCADE takes along: whatever depends on an object, and the whole that an internal part belongs to.
// A column that depends on something goes alone, and takes along what depends on that column.
const closure = `
  WITH RECURSIVE closure (classid, objid, subid) AS (
    SELECT * FROM unnest($1::pg_catalog.oid[], $2::pg_catalog.oid[], $3::pg_catalog.int4[])
    UNION
    SELECT next.classid, next.objid, next.subid FROM closure, LATERAL (
      SELECT d.classid, d.objid, d.objsubid AS subid FROM pg_catalog.pg_depend d
      WHERE d.refclassid = closure.classid AND d.refobjid = closure.objid
        AND (closure.subid = 0 OR d.refobjsubid = closure.subid) AND d.deptype <> 'x'
      UNION ALL
      SELECT d.refclassid, d.refobjid, 0 FROM pg_catalog.pg_depend d
      WHERE d.classid = closure.classid AND d.objid = closure.objid AND closure.subid = 0
        AND d.deptype = 'i' AND d.refobjsubid = 0
    ) AS next
  )`;

function columns(refs: readonly ObjectRef[]): number[][] {
  return [
    refs.map(({ classid }) => classid),
    refs.map(({ objid }) => objid),
    refs.map(({ subid }) => subid),
  ];
}

/**
 * Counts the objects that DROP … CASCADE of these takes along, each of which it locks; no further than
 * `most` + 1.
 */
export async function countDependents(
  client: pg.ClientBase,
  refs: readonly ObjectRef[],
  most: number,
): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    `${closure} SELECT pg_catalog.count(*)::pg_catalog.int4 AS count
     FROM (SELECT FROM closure LIMIT $4) AS found`,
    [...columns(refs), most + 1],
  );
  return rows[0]?.count ?? 0;
}

/** Objects that CASCADE takes along: those furthest away of the first `most`, with a few that are near. */
export async function distantDependents(
  client: pg.ClientBase,
  ref: ObjectRef,
  most: number,
): Promise<ObjectRef[]> {
  const { rows } = await client.query<ObjectRef>(
    `${closure} SELECT classid, objid, subid FROM closure LIMIT $4`,
    [...columns([ref]), most],
  );
  return [...rows.slice(-furthest).toReversed(), ...rows.slice(0, nearest)];
}

const furthest = 200;
const nearest = 50;

/** Where objects are droppable as a whole: others lose what depends on those, and no more. */
export interface Place {
  /** Schema of the connected database. */
  readonly schema: string | null;
  /** Roles whose objects are droppable wherever they lie. */
  readonly owners: readonly string[];
}

/**
 * The smallest things that can be dropped one by one for these: for an internal part, the object that it
 * belongs to; for a column, its table, where that is of the place. Columns of others are left out, and so
 * are parts of a partition, which go with it.
 */
export async function droppableUnits(
  client: pg.ClientBase,
  refs: readonly ObjectRef[],
  { schema, owners }: Place,
): Promise<ObjectRef[]> {
  const { rows } = await client.query<ObjectRef>(
    `WITH RECURSIVE unit (classid, objid, place, depth) AS (
       SELECT part.classid, part.objid, part.place, 0
       FROM unnest($1::pg_catalog.oid[], $2::pg_catalog.oid[], $3::pg_catalog.int4[])
         WITH ORDINALITY AS part (classid, objid, subid, place)
       LEFT JOIN pg_catalog.pg_class c
         ON part.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = part.objid
       LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       WHERE part.subid = 0 OR n.nspname = $4
         OR pg_catalog.pg_get_userbyid(c.relowner) = ANY ($5::pg_catalog.name[])
       UNION
       SELECT own.refclassid, own.refobjid, unit.place, unit.depth + 1 FROM unit
       JOIN pg_catalog.pg_depend own ON own.classid = unit.classid AND own.objid = unit.objid
       WHERE own.deptype = 'i' AND own.objsubid = 0 AND unit.depth < 8
     )
     SELECT unit.classid, unit.objid, 0 AS subid FROM unit
     WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend own
       WHERE own.classid = unit.classid AND own.objid = unit.objid AND own.objsubid = 0
         AND own.deptype IN ('i', 'P', 'S', 'e'))
     GROUP BY unit.classid, unit.objid ORDER BY pg_catalog.min(unit.place)`,
    [...columns(refs), schema, owners],
  );
  return rows;
}

/** Locks that one transaction may take: an eighth of what the server has room for, 1,000 at most. */
export async function lockBudget(client: pg.ClientBase): Promise<number> {
  const { rows } = await client.query<{ room: number }>(
    `SELECT pg_catalog.current_setting('max_locks_per_transaction')::pg_catalog.int4
       * (pg_catalog.current_setting('max_connections')::pg_catalog.int4
          + pg_catalog.current_setting('max_prepared_transactions')::pg_catalog.int4) AS room`,
  );
  return Math.max(32, Math.min(1_000, Math.floor((rows[0]?.room ?? 0) / 8)));
}
