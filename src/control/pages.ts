import type { Knex } from 'knex';

/** Which part of a sorted list: Relay's arguments, cursors decoded. */
export interface PageRequest {
  /** How many; the caller has made sure that it is 1 to 100. */
  readonly limit: number;
  /** From the end instead of the beginning (`last`). */
  readonly backward: boolean;
  readonly after?: Cursor;
  readonly before?: Cursor;
}

/** Place of a row in its order: the sort value as PostgreSQL prints it, and the id. */
export interface Cursor {
  readonly key: string;
  readonly id: string;
}

export interface Page<T> {
  /** In the order asked for. */
  readonly rows: readonly (T & { readonly cursor: Cursor })[];
  readonly hasMore: boolean;
  /** Of the whole list; counted when asked. */
  readonly countAll: () => Promise<number>;
}

export interface SortOrder {
  readonly column: string;
  /** PostgreSQL type of the column, to read a cursor's text back. */
  readonly type: 'timestamptz' | 'text';
  /** PostgreSQL type of the column `id`; default uuid. */
  readonly idType?: 'uuid' | 'bigint';
  readonly descending: boolean;
}

/**
 * Reads one page by keyset: unlike an offset it does not drift when rows are inserted. A timestamp's
 * microseconds survive, since the sort value travels as text.
 *
 * @param list query with its conditions, without columns, order or limit; must have a column `id`
 */
export async function readPage<T extends object>(
  list: Knex.QueryBuilder,
  columns: Record<string, string>,
  order: SortOrder,
  request: PageRequest,
): Promise<Page<T>> {
  const query = list.clone();
  const beyond = (cursor: Cursor, operator: '>' | '<'): void => {
    void query.whereRaw(`(??, id) ${operator} (?::${order.type}, ?::${order.idType ?? 'uuid'})`, [
      order.column,
      cursor.key,
      cursor.id,
    ]);
  };
  if (request.after !== undefined) beyond(request.after, order.descending ? '<' : '>');
  if (request.before !== undefined) beyond(request.before, order.descending ? '>' : '<');
  const descending = order.descending !== request.backward;
  const direction = descending ? 'desc' : 'asc';
  const found = (await query
    .select(columns)
    .select({ sortKey: query.client.raw('??::text', [order.column]) as unknown as string })
    .orderBy([
      { column: order.column, order: direction },
      { column: 'id', order: direction },
    ])
    .limit(request.limit + 1)) as (T & { id: string | number; sortKey: string })[];
  const rows = found
    .slice(0, request.limit)
    .map((row) => ({ ...row, cursor: { key: row.sortKey, id: String(row.id) } }));
  if (request.backward) rows.reverse();
  return {
    rows,
    hasMore: found.length > request.limit,
    countAll: async () => {
      const counted = (await list.clone().count({ count: '*' }).first()) as { count: number };
      return counted.count;
    },
  };
}
