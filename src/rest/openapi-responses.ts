import { z } from 'zod';
import { readBody, readQuery } from './body.ts';
import type { ReplyDocs, ReplyHeader } from './docs.ts';
import type { Problem, ProblemCode } from './errors.ts';
import type { Components, JsonSchema } from './openapi-components.ts';
import { problemDocs, problemsOf } from './problems.ts';
import type { Dialect, DocumentedRoute, RestRequest } from './route.ts';

/** A contract, or what stands beside them: the routes of one chapter. */
export type Chapter = Pick<Dialect, 'errors' | 'docs' | 'tokenOnly'> & {
  readonly routes: readonly DocumentedRoute[];
};

/** All answers of a route by status: its own, then problems in its contract's form. */
export function describeResponses(
  route: DocumentedRoute,
  chapter: Chapter,
  components: Components,
  open: boolean,
): Readonly<Record<string, object>> {
  const problems = problemsByStatus(route, chapter, open);
  const counted = route.docs.problems?.RATE_LIMITED === undefined ? [] : limitHeaders;
  const headersOf = (status: number, own: readonly ReplyHeader[]) => {
    const names = ['X-Request-Id', ...(uncounted.has(status) ? [] : counted), ...own] as const;
    return Object.fromEntries([...new Set(names)].map((name) => [name, components.header(name)]));
  };
  return {
    ...mapStatuses(Object.entries(route.docs.replies), (status, reply) => ({
      description: reply.description,
      headers: headersOf(status, reply.headers ?? []),
      ...contentOf(reply, components),
      ...(reply.links === undefined ? {} : { links: linksOf(reply.links) }),
    })),
    ...mapStatuses(problems, (status, found) => ({
      description: [...new Set(found.map(({ code }) => problemDocs[code].when))].join('. '),
      headers: headersOf(
        status,
        found.flatMap(({ code }) => problemDocs[code].headers ?? []),
      ),
      content: {
        'application/json': {
          schema: eitherOf(
            components.schema(chapter.docs.errorBody(status)),
            route.docs.otherBodies?.[status],
            components,
          ),
          examples: Object.fromEntries(
            found.map(({ code, body }) => [code, { summary: plain(code), value: body }]),
          ),
        },
      },
    })),
  };
}

function eitherOf(
  usual: JsonSchema,
  other: z.ZodType | undefined,
  components: Components,
): JsonSchema {
  return other === undefined ? usual : { anyOf: [usual, components.schema(other)] };
}

const limitHeaders = ['RateLimit', 'RateLimit-Policy'] as const;
/** Refused before anything is counted, whatever the route. */
const uncounted: ReadonlySet<number> = new Set([401, 403, 405, 413, 415]);

/** A summary is no CommonMark. */
function plain(code: ProblemCode): string {
  return problemDocs[code].when.replaceAll('`', '');
}

function mapStatuses<T>(
  entries: Iterable<readonly [status: string | number, value: T]>,
  describe: (status: number, value: T) => object,
): Record<string, object> {
  return Object.fromEntries(
    Array.from(entries, ([status, value]) => [status, describe(Number(status), value)]),
  );
}

function contentOf(reply: ReplyDocs, components: Components): object {
  const { example, mediaType = 'application/json', schema } = reply;
  if (schema === undefined) return {};
  const shown = example === undefined ? {} : { example };
  return { content: { [mediaType]: { schema: components.schema(schema), ...shown } } };
}

function linksOf(links: NonNullable<ReplyDocs['links']>): object {
  return Object.fromEntries(
    Object.entries(links).map(([operationId, parameters]) => [
      operationId,
      {
        operationId,
        parameters: Object.fromEntries(
          Object.entries(parameters).map(([name, field]) => [name, `$response.body#/${field}`]),
        ),
      },
    ]),
  );
}

interface FoundProblem {
  readonly code: ProblemCode;
  readonly body: unknown;
}

/** What can go wrong, each with the body that it has under this contract. */
function problemsByStatus(
  route: DocumentedRoute,
  chapter: Chapter,
  open: boolean,
): Map<number, FoundProblem[]> {
  const byStatus = new Map<number, FoundProblem[]>();
  for (const code of problemsOf(route, open)) {
    const { status, body } = chapter.errors(sampleOf(route, code, open));
    byStatus.set(status, [...(byStatus.get(status) ?? []), { code, body }]);
  }
  return new Map([...byStatus].sort(([a], [b]) => a - b));
}

/** A problem as the route itself tells it: of an empty object, of a brace alone, of parameters `0`. */
function sampleOf(route: DocumentedRoute, code: ProblemCode, open: boolean): Problem {
  const { body, query, docs } = route;
  if (body !== undefined && (code === 'INVALID' || code === 'MALFORMED_JSON')) {
    const read = readBody(sampleRequest(code === 'INVALID' ? '{}' : '{'), body);
    if ('problem' in read) return read.problem;
  }
  if (query instanceof z.ZodObject && code === 'INVALID') {
    const zeros = Object.keys(query.shape).map((name) => `${name}=0`);
    const read = readQuery(sampleRequest('', zeros.join('&')), query);
    if ('problem' in read) return read.problem;
  }
  const { message, openMessage, issues } = problemDocs[code];
  return {
    code,
    message: docs.problems?.[code] ?? (open ? openMessage : undefined) ?? message,
    ...(issues === undefined ? {} : { issues }),
  };
}

function sampleRequest(body: string, query = ''): RestRequest {
  return {
    method: '',
    params: {},
    query: new URLSearchParams(query),
    header: (name) => (name === 'content-type' ? 'application/json' : null),
    body: new TextEncoder().encode(body),
  };
}
