import type { ExecutionResult } from 'graphql';
import type { Failure } from '../errors.ts';
import { formProblem, messageFor, readBody, readQuery } from './body.ts';
import type { ErrorForm, Issue, Problem, ProblemCode } from './errors.ts';
import type { Reply } from './reply.ts';
import { isForbidden } from './permission.ts';
import { tenantVariables } from './tenant-key.ts';
import type { Dialect, Execute, MutationPayload, RestRequest, Route } from './route.ts';

export interface RunOptions {
  readonly execute: Execute;
  /** In front of paths in `Location`; empty: paths alone. */
  readonly publicUrl: string;
}

const notFound = { code: 'NOT_FOUND', message: 'Not found' } as const;
const forbidden = { code: 'FORBIDDEN', message: 'You may not do this' } as const;
const otherVersion = {
  code: 'VERSION_MISMATCH',
  message: 'Another version is there by now',
} as const;

/** Answers one request by running its route's document. Rejects only on what is a bug or an outage. */
export async function runRoute(
  dialect: Dialect,
  route: Route,
  request: RestRequest,
  options: RunOptions,
): Promise<Reply> {
  const read = route.body === undefined ? readNoBody(request) : readBody(request, route.body);
  if ('problem' in read) {
    if (await isForbidden(route, options.execute)) return dialect.errors(forbidden);
    return dialect.errors(read.problem);
  }
  const asked = route.query === undefined ? { query: null } : readQuery(request, route.query);
  if ('problem' in asked) return dialect.errors(asked.problem);
  const found = await findTenantId(dialect, route, request, options);
  if ('reply' in found) return found.reply;
  const input = {
    body: read.body,
    params: request.params,
    query: asked.query,
    tenantId: found.tenantId,
    wait: !prefersAsync(request.header('prefer')),
    publicUrl: options.publicUrl,
  };
  const versions = versionsOf(route, request);
  let result: ExecutionResult | null = null;
  for (const expectedVersion of versions.slice(0, maxTags)) {
    const variables = route.variables({ ...input, expectedVersion });
    result = await options.execute(route.document, variables);
    if (!isOtherVersion(result)) break;
  }
  if (result === null) return dialect.errors(otherVersion);
  const refused = topLevelProblem(result, dialect.errors);
  if (refused !== null) return refused;

  const data = result.data as Record<string, unknown>;
  const payload = payloadOf(data);
  const location = locationOf(payload, options.publicUrl);
  if (payload !== null && payload.userErrors.length > 0) {
    if (route.isGone?.(data) === true) return dialect.errors(notFound);
    if (isOtherVersion(result)) return dialect.errors(otherVersion);
    const refusal = route.refuse?.(payload.userErrors, { ...input, expectedVersion: null });
    return refusal ?? failed(payload.userErrors, dialect.errors, location);
  }
  const reply = route.respond(data, { ...input, expectedVersion: null });
  if (reply === null) return dialect.errors(notFound);
  return reply.status === 202 ? { ...reply, headers: { ...reply.headers, ...location } } : reply;
}

function readNoBody(request: RestRequest): { readonly body: null } | { readonly problem: Problem } {
  const problem = formProblem(request);
  return problem === null ? { body: null } : { problem };
}

const lookup = /* GraphQL */ `
  query TenantId($id: ID, $number: Int, $slug: String) {
    tenant(id: $id, number: $number, slug: $slug) {
      id
    }
  }
`;

/** The tenant that the path names, where the route's document needs its id. */
async function findTenantId(
  dialect: Dialect,
  route: Route,
  { params }: RestRequest,
  { execute }: RunOptions,
): Promise<{ readonly tenantId: string } | { readonly reply: Reply }> {
  if (route.tenantKey === undefined) return { tenantId: '' };
  const result = await execute(lookup, tenantVariables(params[route.tenantKey] ?? ''));
  const refused = topLevelProblem(result, dialect.errors);
  if (refused !== null) return { reply: refused };
  const { tenant } = result.data as { tenant: { id: string } | null };
  return tenant === null ? { reply: dialect.errors(notFound) } : { tenantId: tenant.id };
}

/** More entity tags than anybody could know. */
const maxTags = 10;

/**
 * The versions that `If-Match` names, any of which will do (RFC 9110, 13.1.1): strong entity tags alone,
 * as a weak one matches nothing here. Null: any version.
 */
function versionsOf(route: Route, { header }: RestRequest): readonly (number | null)[] {
  const given = route.ifMatch === true ? header('if-match') : null;
  if (given === null || given.trim() === '*') return [null];
  return given.split(',').flatMap((tag) => {
    const [, version] = /^\s*"([1-9][0-9]{0,8})"\s*$/.exec(tag) ?? [];
    return version === undefined ? [] : [Number(version)];
  });
}

function isOtherVersion({ data }: ExecutionResult): boolean {
  return payloadOf(data ?? {})?.userErrors[0]?.code === 'VERSION_MISMATCH';
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
  const { batch, operation } = payload ?? {};
  if (batch != null) return { Location: `${publicUrl}/api/batches/${batch.id}` };
  return operation == null ? {} : { Location: `${publicUrl}/api/operations/${operation.id}` };
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
  'UNAVAILABLE',
]);

/** What is wrong with a result as a whole, in a contract's form; null: nothing. */
export function topLevelProblem(result: ExecutionResult, errors: ErrorForm): Reply | null {
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
  // What failed while it ran is in the log by now. Anything else means a route asks wrongly.
  if (code !== 'INTERNAL_SERVER_ERROR') throw error;
  return errors({ code, message: 'Unexpected error' });
}
