import type { Knex } from 'knex';
import { controlSchema, type Control } from './database.ts';

/** A column that holds sealed values: see `provisioning/sealed-columns.ts` for all there are. */
export interface SealedColumn {
  readonly table: string;
  readonly column: string;
  /** The table's primary key: each column and its PostgreSQL type. */
  readonly key: Readonly<Record<string, 'uuid' | 'text'>>;
  /** SQL of the id that its values are bound to; the row is called `row`. */
  readonly boundTo: string;
}

/** One sealed value, and where it stands. */
export interface SealedValue {
  /** Values of the primary key, in the order of its columns. */
  readonly key: readonly string[];
  readonly sealed: string;
  readonly boundTo: string;
}

/**
 * Values that do not begin with `currentPrefix`, in the order of their keys.
 *
 * @param after the key to go on after; null: from the beginning
 */
export async function listSealedOtherwise(
  control: Control,
  column: SealedColumn,
  currentPrefix: string,
  after: readonly string[] | null,
  limit: number,
): Promise<SealedValue[]> {
  const names = Object.keys(column.key);
  const keys = names.map((name) => `row.${name}`).join();
  const places = Object.values(column.key)
    .map((type) => `?::${type}`)
    .join();
  const { rows } = await control.raw<{ rows: SealedValue[] }>(
    `SELECT ARRAY[${names.map((name) => `row.${name}::text`).join()}] AS key,
       row.${column.column} AS sealed, (${column.boundTo})::text AS "boundTo"
     FROM ${controlSchema}.${column.table} row
     WHERE row.${column.column} IS NOT NULL AND NOT starts_with(row.${column.column}, ?)
       ${after === null ? '' : `AND (${keys}) > (${places})`}
     ORDER BY ${keys} LIMIT ?`,
    [currentPrefix, ...(after ?? []), limit],
  );
  return rows;
}

/** Puts a value in the place of the one that was read. False when another is there by now. */
export async function replaceSealed(
  control: Control,
  column: SealedColumn,
  { key, sealed }: SealedValue,
  resealed: string,
): Promise<boolean> {
  const row = Object.fromEntries(Object.keys(column.key).map((name, index) => [name, key[index]]));
  const changed = await table(control, column)
    .where({ ...row, [column.column]: sealed })
    .update({ [column.column]: resealed });
  return changed === 1;
}

/** How many values a column holds under each key; the empty key: of the older form, which names none. */
export async function countSealed(
  control: Control,
  column: SealedColumn,
): Promise<ReadonlyMap<string, number>> {
  const rows = (await table(control, column)
    .whereNotNull(column.column)
    .groupByRaw('1')
    .orderByRaw('1')
    .select({
      keyId: control.raw(
        `CASE WHEN starts_with(??, 'v1.') THEN split_part(??, '.', 2) ELSE '' END`,
        [column.column, column.column],
      ),
    })
    .count({ count: '*' })) as { keyId: string; count: number }[];
  return new Map(rows.map(({ keyId, count }) => [keyId, count]));
}

/** One value for each key that a column's values are sealed under. */
export async function sampleSealed(
  control: Control,
  column: SealedColumn,
): Promise<readonly Pick<SealedValue, 'sealed' | 'boundTo'>[]> {
  const { rows } = await control.raw<{ rows: Pick<SealedValue, 'sealed' | 'boundTo'>[] }>(
    `SELECT DISTINCT ON (CASE WHEN starts_with(row.${column.column}, 'v1.')
         THEN split_part(row.${column.column}, '.', 2) END)
       row.${column.column} AS sealed, (${column.boundTo})::text AS "boundTo"
     FROM ${controlSchema}.${column.table} row WHERE row.${column.column} IS NOT NULL`,
  );
  return rows;
}

function table(control: Control, column: SealedColumn): Knex.QueryBuilder {
  return control.withSchema(controlSchema).from(column.table);
}
