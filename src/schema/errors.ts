import { GraphQLError, type ExecutionResult } from 'graphql';
import type { Logger } from 'pino';
import { Refusal, type RefusalCode } from '../errors.ts';

const statuses: Readonly<Record<RefusalCode, number>> = {
  BAD_USER_INPUT: 400,
  UNAUTHENTICATED: 401,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
  RATE_LIMITED: 429,
};

/** A refusal as a top-level GraphQL error, with the HTTP status it sets when no field has data. */
export function toGraphQLError(refusal: Refusal, at?: GraphQLError): GraphQLError {
  const headers: Record<string, string> = {};
  if (refusal.retryAfterSeconds !== undefined) {
    headers['Retry-After'] = String(refusal.retryAfterSeconds);
  }
  if (refusal.code === 'UNAUTHENTICATED') headers['WWW-Authenticate'] = 'Bearer';
  return new GraphQLError(refusal.message, {
    ...(at?.nodes === undefined ? {} : { nodes: at.nodes }),
    path: at?.path ?? null,
    extensions: { code: refusal.code, http: { status: statuses[refusal.code], headers } },
  });
}

/**
 * Makes the errors of a result fit to be shown: refusals with their code, GraphQL's own as they are,
 * and everything unexpected as INTERNAL_SERVER_ERROR, whose cause stands in the log only.
 */
export function presentErrors(
  result: ExecutionResult,
  { log, requestId }: { readonly log: Logger; readonly requestId: string },
): ExecutionResult {
  if (result.errors === undefined) return result;
  const hasData = Object.values(result.data ?? {}).some((value) => value !== null);
  const errors = result.errors.map((error) => {
    const shown = present(error, requestId);
    if (shown.extensions['code'] === 'INTERNAL_SERVER_ERROR') {
      log.error({ err: error.cause ?? error, requestId, path: error.path }, 'request failed');
    }
    // Another field has an answer: the status of one field must not hide it.
    return hasData ? withoutHttp(shown) : shown;
  });
  return { ...result, errors };
}

function present(error: GraphQLError, requestId: string): GraphQLError {
  const cause = refusalIn(error);
  if (cause !== null) return toGraphQLError(cause, error);
  if (error.cause === undefined || error.cause instanceof GraphQLError) return error;
  return new GraphQLError('Unexpected error', {
    ...(error.nodes === undefined ? {} : { nodes: error.nodes }),
    path: error.path ?? null,
    extensions: { code: 'INTERNAL_SERVER_ERROR', requestId, http: { status: 500 } },
  });
}

function refusalIn(error: GraphQLError): Refusal | null {
  let { cause } = error;
  while (cause instanceof GraphQLError) cause = cause.cause;
  return cause instanceof Refusal ? cause : null;
}

function withoutHttp(error: GraphQLError): GraphQLError {
  const { http: _, ...extensions } = error.extensions;
  return new GraphQLError(error.message, {
    ...(error.nodes === undefined ? {} : { nodes: error.nodes }),
    path: error.path ?? null,
    extensions,
  });
}
