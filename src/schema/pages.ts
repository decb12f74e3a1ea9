import { Refusal } from '../errors.ts';
import type { Cursor, Page, PageRequest, SortOrder } from '../control/pages.ts';
import { looksLikeUuid } from '../provisioning/names.ts';
import { isStorable } from './inputs.ts';

/** Relay's arguments as GraphQL hands them over. */
export interface ConnectionArguments {
  readonly first?: number | null | undefined;
  readonly after?: string | null | undefined;
  readonly last?: number | null | undefined;
  readonly before?: string | null | undefined;
}

/** The order of a list, as far as its cursors depend on it. */
export interface ListOrder {
  /** Such as `CREATED_AT`: a cursor is good for the order it comes from. */
  readonly name: string;
  /** What its sort values are. */
  readonly type: SortOrder['type'];
  /** What its rows' ids are; default uuid. */
  readonly idType?: 'uuid' | 'bigint';
}

/** Order of lists that have no other. */
export const byCreation: ListOrder = { name: 'CREATED_AT', type: 'timestamptz' };

const defaultLimit = 50;
/** The longest page of any list. */
export const maxLimit = 100;

/**
 * Which page is asked for.
 *
 * @throws Refusal BAD_USER_INPUT when the arguments contradict one another or a cursor is not ours
 */
export function pageRequest(args: ConnectionArguments, order: ListOrder): PageRequest {
  if (args.first != null && args.last != null) {
    throw new Refusal('BAD_USER_INPUT', 'first and last cannot be used together');
  }
  const backward = args.last != null;
  const limit = args.first ?? args.last ?? defaultLimit;
  if (limit < 1 || limit > maxLimit) {
    const name = backward ? 'last' : 'first';
    throw new Refusal('BAD_USER_INPUT', `${name} must be 1 to ${maxLimit}`);
  }
  return {
    limit,
    backward,
    ...(args.after == null ? {} : { after: decodeCursor('after', args.after, order) }),
    ...(args.before == null ? {} : { before: decodeCursor('before', args.before, order) }),
  };
}

/** Cost of a connection: that of its rows, as many as are asked for. */
export function pageComplexity(args: ConnectionArguments): { field: number; multiplier: number } {
  // Longer pages are refused by `pageRequest`, which says what is wrong better than a cost would.
  return { field: 1, multiplier: Math.min(args.first ?? args.last ?? defaultLimit, maxLimit) };
}

/** A page as the connection types resolve it. */
export function toConnection<T>(page: Page<T>, request: PageRequest, order: ListOrder) {
  const edges = page.rows.map((row) => ({ node: row, cursor: encodeCursor(row.cursor, order) }));
  return {
    edges,
    pageInfo: {
      hasNextPage: !request.backward && page.hasMore,
      hasPreviousPage: request.backward && page.hasMore,
      startCursor: edges[0]?.cursor ?? null,
      endCursor: edges.at(-1)?.cursor ?? null,
    },
    countAll: page.countAll,
  };
}

function encodeCursor({ key, id }: Cursor, order: ListOrder): string {
  return Buffer.from(JSON.stringify([order.name, key, id])).toString('base64url');
}

function decodeCursor(argument: string, text: string, order: ListOrder): Cursor {
  const [name, key, id] = partsOf(text);
  // Anybody can make up a cursor: what gets past here, PostgreSQL must be able to read.
  if (name === order.name && typeof key === 'string' && typeof id === 'string') {
    const readable = order.type === 'timestamptz' ? isTimestamp(key) : isStorable(key);
    const isId = order.idType === 'bigint' ? /^[0-9]{1,16}$/.test(id) : looksLikeUuid(id);
    if (readable && isId) return { key, id };
  }
  throw new Refusal('BAD_USER_INPUT', `${argument} is not a cursor of this list`);
}

function partsOf(text: string): readonly unknown[] {
  try {
    const parts: unknown = JSON.parse(Buffer.from(text, 'base64url').toString());
    return Array.isArray(parts) ? parts : [];
  } catch {
    return [];
  }
}

const timestampForm =
  /^(?!0000)\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?[+-](0\d|1[0-5])(:[0-5]\d){0,2}$/;

/** A moment as PostgreSQL prints it. */
function isTimestamp(text: string): boolean {
  if (!timestampForm.test(text)) return false;
  try {
    Temporal.Instant.from(text); // knows which days there are
    return true;
  } catch {
    return false;
  }
}
