import { Refusal } from '../errors.ts';
import type { Cursor, Page, PageRequest } from '../control/pages.ts';
import { looksLikeUuid } from '../provisioning/names.ts';

/** Relay's arguments as GraphQL hands them over. */
export interface ConnectionArguments {
  readonly first?: number | null | undefined;
  readonly after?: string | null | undefined;
  readonly last?: number | null | undefined;
  readonly before?: string | null | undefined;
}

const defaultLimit = 50;
const maxLimit = 100;

/**
 * Which page is asked for.
 *
 * @throws Refusal BAD_USER_INPUT when the arguments contradict one another or a cursor is not ours
 */
export function pageRequest(args: ConnectionArguments): PageRequest {
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
    ...(args.after == null ? {} : { after: decodeCursor('after', args.after) }),
    ...(args.before == null ? {} : { before: decodeCursor('before', args.before) }),
  };
}

/** Cost of a connection: that of its rows, as many as are asked for. */
export function pageComplexity(args: ConnectionArguments): { field: number; multiplier: number } {
  return { field: 1, multiplier: args.first ?? args.last ?? defaultLimit };
}

/** A page as the connection types resolve it. */
export function toConnection<T>(page: Page<T>, request: PageRequest) {
  const edges = page.rows.map((row) => ({ node: row, cursor: encodeCursor(row.cursor) }));
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

function encodeCursor({ key, id }: Cursor): string {
  return Buffer.from(JSON.stringify([key, id])).toString('base64url');
}

function decodeCursor(argument: string, text: string): Cursor {
  try {
    const parts: unknown = JSON.parse(Buffer.from(text, 'base64url').toString());
    if (Array.isArray(parts)) {
      const [key, id] = parts as unknown[];
      if (typeof key === 'string' && typeof id === 'string' && looksLikeUuid(id)) {
        return { key, id };
      }
    }
  } catch {
    // told below
  }
  throw new Refusal('BAD_USER_INPUT', `${argument} is not a cursor of this list`);
}
