import type { ExecutionResult } from 'graphql';
import type { Failure } from '../errors.ts';
import { messageFor, readBody } from './body.ts';
import type { ErrorForm, Issue, ProblemCode } from './errors.ts';
import type { Reply } from './reply.ts';
import type { Dialect, Execute, MutationPayload, RestRequest, Route } from './route.ts';

export interface RunOptions {
  readonly execute: Execute;
  /** In front of paths in `Location`; empty: paths alone. */
  readonly publicUrl: string;
}

/** Answers one request by running its route's document. Rejects only on what is a bug or an outage. */
export async function runRoute(
  dialect: Dialect,
  route: Route,
  request: RestRequest,
  options: RunOptions,
): Promise<Reply> {
  const read = route.body === undefined ? { body: null } : readBody(request, route.body);
  if ('problem' in read) return dialect.errors(read.problem);
  const wait = !prefersAsync(request.header('prefer'));
  const input = { body: read.body, params: request.params, query: request.query, wait };
  const result = await options.execute(route.document, route.variables(input));
  const refused = topLevelProblem(result, dialect.errors);
  if (refused !== null) return refused;

  const data = result.data as Record<string, unknown>;
  const payload = payloadOf(data);
  const location = locationOf(payload, options.publicUrl);
  if (payload !== null && payload.userErrors.length > 0) {
    return failed(payload.userErrors, dialect.errors, location);
  }
  const reply = route.respond(data, input);
  if (reply === null) return dialect.errors({ code: 'NOT_FOUND', message: 'Not found' });
  return reply.status === 202 ? { ...reply, headers: { ...reply.headers, ...location } } : reply;
}

function prefersAsync(prefer: string | null): boolean {
  // RFC 7240: preferences are tokens separated by commas, with parameters after semicolons.
  return (prefer ?? '')
    .split(',')
    .some((token) => token.split(';', 1)[0]?.trim().toLowerCase() === 'respond-async');
}

/** The payload when the root field was a mutation: queries have no `userErrors`. */
function payloadOf(data: Record<string, unknown>): MutationPayload | null {
  const [root] = Object.values(data);
  if (typeof root !== 'object' || root === null || !('userErrors' in root)) return null;
  return root as MutationPayload;
}

function locationOf(payload: MutationPayload | null, publicUrl: string): Record<string, string> {
  const id = payload?.operation?.id;
  return id === undefined ? {} : { Location: `${publicUrl}/api/operations/${id}` };
}

function failed(
  failures: readonly Failure[],
  errors: ErrorForm,
  location: Record<string, string>,
): Reply {
  const invalid = failures.filter((failure) => failure.code === 'INVALID');
  if (invalid.length > 0) {
    const issues = invalid.map(toIssue);
    return errors({ code: 'INVALID', message: messageFor(issues), issues });
  }
  const [first] = failures;
  const code = first?.code ?? 'INVALID';
  return errors({
    code,
    message: first?.message ?? 'The request failed',
    ...(code === 'TIMED_OUT' ? { headers: location } : {}),
    ...(code === 'IDEMPOTENCY_MISMATCH' && first !== undefined ? { issues: [toIssue(first)] } : {}),
  });
}

/** GraphQL's path begins with the argument, the body's with the field. */
function toIssue(failure: Failure): Issue {
  return { type: 'value_error', path: (failure.field ?? []).slice(1), message: failure.message };
}

const refusals: ReadonlySet<string> = new Set<ProblemCode>([
  'UNAUTHENTICATED',
  'FORBIDDEN',
  'RATE_LIMITED',
  'BAD_USER_INPUT',
  'NOT_FOUND',
]);

function topLevelProblem(result: ExecutionResult, errors: ErrorForm): Reply | null {
  const [error] = result.errors ?? [];
  if (error === undefined) return null;
  const { code, http } = error.extensions as {
    code?: string;
    http?: { headers?: Record<string, string> };
  };
  if (code !== undefined && refusals.has(code)) {
    const headers = http?.headers;
    return errors({
      code: code as ProblemCode,
      message: error.message,
      ...(headers === undefined ? {} : { headers }),
    });
  }
  return errors({ code: 'INTERNAL_SERVER_ERROR', message: 'Unexpected error' });
}
