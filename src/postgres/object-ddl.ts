// The SQL that names an object of a catalog: what pg_identify_object answers is not always what DROP or
// REVOKE take.
import type pg from 'pg';

/** An object of the connected database, or a column of one. */
export interface ObjectRef {
  readonly classid: number;
  readonly objid: number;
  /** Number of the column; 0 is the whole object. */
  readonly subid: number;
}

/** An object that exists, as DDL names it. */
export interface CatalogObject extends ObjectRef {
  /** As pg_identify_object calls it. */
  readonly type: string;
  /** Schema-qualified and quoted. */
  readonly identity: string;
  /** Role that may change it: its owner, or the owner of its table; null: a superuser, or not known. */
  readonly owner: string | null;
  /** Arguments of a function, procedure or aggregate; null: it is none. */
  readonly signature: string | null;
  /** Table or domain of a constraint, default, rule, trigger or policy, schema-qualified. */
  readonly parent: string | null;
  /** Name within that: of the constraint, or of the column of a default. */
  readonly part: string | null;
  /** Whether a column is computed by its default, which then cannot be dropped alone. */
  readonly generated: boolean;
}

const regclass = (name: string): string => `'pg_catalog.${name}'::pg_catalog.regclass`;

/**
 * Reads how DDL names objects; those that are gone are left out. Nothing of a tenant's is evaluated: all
 * functions are the server's own, and take oids.
 */
export async function describeObjects(
  client: pg.ClientBase,
  refs: readonly ObjectRef[],
): Promise<CatalogObject[]> {
  const { rows } = await client.query<CatalogObject>(
    `SELECT o.classid, o.objid, o.subid, i.type, i.identity,
       (SELECT r.rolname::pg_catalog.text FROM pg_catalog.pg_roles r
        WHERE r.oid = coalesce(owner.refobjid, rel.relowner) AND NOT r.rolsuper) AS owner,
       CASE WHEN p.oid IS NOT NULL THEN
         pg_catalog.format('%I.%I(%s)', pn.nspname, p.proname,
           CASE WHEN p.prokind = 'a' AND p.pronargs = 0 THEN '*'
                ELSE pg_catalog.pg_get_function_identity_arguments(p.oid) END)
       END AS signature,
       CASE WHEN rel.oid IS NOT NULL THEN pg_catalog.format('%I.%I', reln.nspname, rel.relname)
            WHEN dom.oid IS NOT NULL THEN pg_catalog.format('%I.%I', domn.nspname, dom.typname)
       END AS parent,
       pg_catalog.quote_ident(coalesce(con.conname, col.attname)) AS part,
       coalesce(col.attgenerated <> '', false) AS generated
     FROM unnest($1::pg_catalog.oid[], $2::pg_catalog.oid[], $3::pg_catalog.int4[])
       WITH ORDINALITY AS o (classid, objid, subid, place)
     CROSS JOIN LATERAL pg_catalog.pg_identify_object(o.classid, o.objid, 0) AS i
     LEFT JOIN pg_catalog.pg_proc p ON o.classid = ${regclass('pg_proc')} AND p.oid = o.objid
     LEFT JOIN pg_catalog.pg_namespace pn ON pn.oid = p.pronamespace
     LEFT JOIN pg_catalog.pg_constraint con
       ON o.classid = ${regclass('pg_constraint')} AND con.oid = o.objid
     LEFT JOIN pg_catalog.pg_attrdef def
       ON o.classid = ${regclass('pg_attrdef')} AND def.oid = o.objid
     LEFT JOIN pg_catalog.pg_attribute col ON col.attrelid = def.adrelid AND col.attnum = def.adnum
     LEFT JOIN pg_catalog.pg_rewrite rul
       ON o.classid = ${regclass('pg_rewrite')} AND rul.oid = o.objid
     LEFT JOIN pg_catalog.pg_trigger trg
       ON o.classid = ${regclass('pg_trigger')} AND trg.oid = o.objid
     LEFT JOIN pg_catalog.pg_policy pol ON o.classid = ${regclass('pg_policy')} AND pol.oid = o.objid
     LEFT JOIN pg_catalog.pg_class rel ON rel.oid = coalesce(nullif(con.conrelid, 0::pg_catalog.oid),
       def.adrelid, rul.ev_class, trg.tgrelid, pol.polrelid)
     LEFT JOIN pg_catalog.pg_namespace reln ON reln.oid = rel.relnamespace
     LEFT JOIN pg_catalog.pg_type dom ON dom.oid = nullif(con.contypid, 0::pg_catalog.oid)
     LEFT JOIN pg_catalog.pg_namespace domn ON domn.oid = dom.typnamespace
     LEFT JOIN pg_catalog.pg_shdepend owner ON owner.deptype = 'o'
       AND owner.refclassid = ${regclass('pg_authid')}
       AND owner.classid = CASE WHEN dom.oid IS NULL THEN o.classid ELSE ${regclass('pg_type')} END
       AND owner.objid = coalesce(dom.oid, o.objid) AND owner.objsubid = 0
       AND owner.dbid = (SELECT d.oid FROM pg_catalog.pg_database d
                         WHERE d.datname = pg_catalog.current_database())
     WHERE i.identity IS NOT NULL ORDER BY o.place`,
    [
      refs.map(({ classid }) => classid),
      refs.map(({ objid }) => objid),
      refs.map(({ subid }) => subid),
    ],
  );
  return rows;
}

/** Words behind DROP that differ from what pg_identify_object calls a kind of object. */
const dropKeywords: Readonly<Record<string, string>> = {
  'composite type': 'TYPE',
  'statistics object': 'STATISTICS',
  'foreign-data wrapper': 'FOREIGN DATA WRAPPER',
};

/** Kinds of which `DROP <kind> IF EXISTS <identity> CASCADE` is right. */
const plainKinds: ReadonlySet<string> = new Set([
  'table',
  'view',
  'materialized view',
  'sequence',
  'foreign table',
  'index',
  'type',
  'composite type',
  'operator',
  'operator class',
  'operator family',
  'cast',
  'collation',
  'conversion',
  'text search configuration',
  'text search dictionary',
  'text search parser',
  'text search template',
  'statistics object',
  'schema',
  'trigger',
  'rule',
  'policy',
  'server',
  'foreign-data wrapper',
  'publication',
  'extension',
  'language',
  'event trigger',
]);

/**
 * The SQL that drops an object with all that depends on it; null: it goes with another one. None of it runs
 * code of a tenant, as ALTER TABLE … DROP COLUMN and … DETACH PARTITION would: they load the key of a
 * partitioned table, whose expressions the server simplifies by calling their functions.
 */
export function dropStatement(object: CatalogObject): string | null {
  const { identity, objid, parent, part, signature, type } = object;
  if (signature !== null) return `DROP ${type.toUpperCase()} IF EXISTS ${signature} CASCADE`;
  if (plainKinds.has(type)) {
    return `DROP ${dropKeywords[type] ?? type.toUpperCase()} IF EXISTS ${identity} CASCADE`;
  }
  if (type === 'large object') return `SELECT pg_catalog.lo_unlink(${objid}::pg_catalog.oid)`;
  if (parent === null || part === null) return otherDrop(type, identity);
  if (type === 'table constraint') {
    return `ALTER TABLE IF EXISTS ${parent} DROP CONSTRAINT IF EXISTS ${part} CASCADE`;
  }
  if (type === 'domain constraint') {
    return `ALTER DOMAIN ${parent} DROP CONSTRAINT IF EXISTS ${part} CASCADE`;
  }
  if (type === 'default value' && !object.generated) {
    return `ALTER TABLE IF EXISTS ${parent} ALTER COLUMN ${part} DROP DEFAULT`;
  }
  return null;
}

function otherDrop(type: string, identity: string): string | null {
  // "role on server name", "for type on language name"; both may have quoted parts.
  const split = /^(?:for )?((?:[^"]|"(?:[^"]|"")*")+?) on (?:server|language) (.+)$/s.exec(
    identity,
  );
  if (split === null) return null;
  const [, first = '', second = ''] = split;
  if (type === 'user mapping') return `DROP USER MAPPING IF EXISTS FOR ${first} SERVER ${second}`;
  if (type === 'transform')
    return `DROP TRANSFORM IF EXISTS FOR ${first} LANGUAGE ${second} CASCADE`;
  return null;
}

/** The SQL that takes every right on an object from roles, as its owner gave them; null: it has none. */
export function revokeStatement(object: CatalogObject, roles: string): string | null {
  const { identity, signature, type } = object;
  const kinds: Readonly<Record<string, string>> = {
    table: 'TABLE',
    view: 'TABLE',
    'materialized view': 'TABLE',
    'foreign table': 'TABLE',
    sequence: 'SEQUENCE',
    type: 'TYPE',
    'composite type': 'TYPE',
    schema: 'SCHEMA',
    language: 'LANGUAGE',
    server: 'FOREIGN SERVER',
    'foreign-data wrapper': 'FOREIGN DATA WRAPPER',
    'large object': 'LARGE OBJECT',
  };
  // An aggregate is named by the types of its arguments alone.
  const name = type === 'aggregate' ? identity : (signature ?? identity);
  const kind = signature === null ? kinds[type] : 'ROUTINE';
  return kind === undefined ? null : `REVOKE ALL ON ${kind} ${name} FROM ${roles} CASCADE`;
}
