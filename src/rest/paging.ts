import { z } from 'zod';
import type { ReplyDocs } from './docs.ts';
import type { Reply } from './reply.ts';

/** Query parameters of lists that are read page by page. */
export const paging = z.object({
  page: wholeNumber('page', 1, 1_000_000).meta({ description: 'Which page, from 1.' }),
  limit: wholeNumber('limit', 50, 100).meta({ description: 'How many a page.' }),
});

/** What such a list tells of its place. */
const paginationSchema = z
  .object({
    page: z.int().min(1),
    limit: z.int().min(1).max(100),
    total: z.int().min(0).meta({ description: 'How many on all pages.' }),
    pages: z.int().min(0).meta({ description: 'How many pages.' }),
  })
  .meta({ id: 'Pagination', description: 'A page’s place in its list.' });

/** `Link` of a page: `first`, `prev`, `next` and `last`, as far as they are (RFC 8288). */
function pageLinks(
  path: string,
  { page, limit, pages }: { readonly page: number; readonly limit: number; readonly pages: number },
): string {
  const last = Math.max(1, pages);
  const targets = {
    first: 1,
    ...(page > 1 ? { prev: Math.min(page - 1, last) } : {}),
    ...(page < last ? { next: page + 1 } : {}),
    last,
  };
  return Object.entries(targets)
    .map(([rel, target]) => `<${path}?page=${target}&limit=${limit}>; rel="${rel}"`)
    .join(', ');
}

/** Rules of a query parameter that is a whole number from 1 to `max`. */
export function wholeNumber(name: string, fallback: number, max: number) {
  return z
    .string()
    .optional()
    .transform((text = String(fallback), context) => {
      const value = /^[0-9]{1,9}$/.test(text) ? Number(text) : 0;
      if (value >= 1 && value <= max) return value;
      const message = `${name} must be a whole number from 1 to ${max}`;
      context.issues.push({ code: 'custom', message, input: text });
      return z.NEVER;
    })
    .meta({ type: 'integer', minimum: 1, maximum: max, default: fallback });
}

/** The selection `tenantsPage { nodes { … } page limit total pages }`. */
export interface TenantsPage<Node> {
  readonly tenantsPage: {
    readonly nodes: readonly Node[];
    readonly page: number;
    readonly limit: number;
    readonly total: number;
    readonly pages: number;
  };
}

/** Answers with a page of tenants as a contract writes them, and links to its neighbours. */
export function pageReply<Node>(
  { tenantsPage: { nodes, ...pagination } }: TenantsPage<Node>,
  url: string,
  body: (node: Node) => unknown,
): Reply {
  return {
    status: 200,
    body: { tenants: nodes.map(body), pagination },
    headers: { Link: pageLinks(url, pagination) },
  };
}

/** What the reference tells of such an answer; `id` names its schema. */
export function pageDocs(id: string, tenant: z.ZodType, example: unknown): ReplyDocs {
  return {
    description: 'One page.',
    schema: z
      .object({ tenants: z.array(tenant), pagination: paginationSchema })
      .meta({ id, description: 'A page of tenants.' }),
    example: { tenants: [example], pagination: { page: 1, limit: 50, total: 1, pages: 1 } },
    headers: ['Link'],
  };
}
