import { GraphQLError, type ExecutionResult } from 'graphql';
import type { Logger } from 'pino';
import { Refusal, type RefusalCode } from '../errors.ts';
import { isLimitError, limitError } from './limits.ts';

const statuses: Readonly<Record<RefusalCode, number>> = {
  BAD_USER_INPUT: 400,
  UNAUTHENTICATED: 401,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
  RATE_LIMITED: 429,
  UNAVAILABLE: 503,
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

/** Where what is wrong is told in full, and by which id it is found there. */
export interface ErrorLog {
  readonly log: Logger;
  readonly requestId: string;
}

/**
 * Makes the errors of a result fit to be shown: refusals with their code, GraphQL's own as they are,
 * and everything unexpected as INTERNAL_SERVER_ERROR, whose cause stands in the log only. Errors that
 * are fit already stay as they are.
 */
export function presentErrors(result: ExecutionResult, errorLog: ErrorLog): ExecutionResult {
  if (result.errors === undefined) return result;
  // A document over a limit is refused as a whole. Of a costly one, every root field says so.
  const overLimit = result.errors.find(isLimitError);
  if (overLimit !== undefined) return { errors: [limitError(overLimit.message)] };
  const hasData = Object.values(result.data ?? {}).some((value) => value !== null);
  const errors = result.errors.map((error) => {
    const shown = presentError(error, errorLog);
    // Another field has an answer: the status of one field must not hide it.
    return hasData ? withoutHttp(shown) : shown;
  });
  return { ...result, errors };
}

/** Makes one error fit to be shown; what is unexpected goes into the log. */
export function presentError(error: unknown, { log, requestId }: ErrorLog): GraphQLError {
  const at = error instanceof GraphQLError ? error : undefined;
  const refusal = refusalIn(error);
  if (refusal !== null) return toGraphQLError(refusal, at);
  if (at !== undefined && (at.cause === undefined || at.cause instanceof GraphQLError)) {
    return isRequestError(at) ? toRequestError(at) : at;
  }
  log.error({ err: at?.cause ?? error, requestId, path: at?.path }, 'request failed');
  return new GraphQLError('Unexpected error', {
    ...(at?.nodes === undefined ? {} : { nodes: at.nodes }),
    path: at?.path ?? null,
    extensions: { code: 'INTERNAL_SERVER_ERROR', requestId, http: { status: 500 } },
  });
}

// Values that do not fit their variables. Documents that do not parse or validate have a code by now.
function isRequestError({ path, extensions }: GraphQLError): boolean {
  return path === undefined && extensions['code'] === undefined;
}

/** As GraphQL over HTTP wants it: 400, but (`spec`) 200 for clients that accept `application/json`. */
function toRequestError({ message, nodes }: GraphQLError): GraphQLError {
  return new GraphQLError(message, {
    ...(nodes === undefined ? {} : { nodes }),
    extensions: { code: 'BAD_USER_INPUT', http: { status: 400, spec: true } },
  });
}

function refusalIn(error: unknown): Refusal | null {
  let cause = error;
  while (cause instanceof GraphQLError) ({ cause } = cause);
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
