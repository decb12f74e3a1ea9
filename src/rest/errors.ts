import type { FailureCode, RefusalCode } from '../errors.ts';
import type { Reply } from './reply.ts';

/** What can go wrong with a REST request, whichever the contract. */
export type ProblemCode =
  | FailureCode
  | RefusalCode
  | 'BAD_REQUEST'
  | 'MALFORMED_JSON'
  | 'UNSUPPORTED_MEDIA_TYPE'
  | 'PAYLOAD_TOO_LARGE'
  | 'METHOD_NOT_ALLOWED'
  | 'INTERNAL_SERVER_ERROR';

/** One broken rule of a body. */
export interface Issue {
  /** Kind of the rule, in the words of contract A's clients (Pydantic's error types). */
  readonly type: string;
  /** Where in the body. */
  readonly path: readonly (string | number)[];
  readonly message: string;
}

export interface Problem {
  readonly code: ProblemCode;
  readonly message: string;
  /** Of INVALID and MALFORMED_JSON. */
  readonly issues?: readonly Issue[];
  readonly headers?: Readonly<Record<string, string>>;
}

/** How a contract tells of a problem. */
export type ErrorForm = (problem: Problem) => Reply;

/** HTTP status by code: contract A's, and that of all others. */
const statuses: Readonly<Record<ProblemCode, readonly [a: number, others: number]>> = {
  INVALID: [422, 400],
  BAD_REQUEST: [400, 400],
  MALFORMED_JSON: [422, 400],
  BAD_USER_INPUT: [422, 400],
  TAKEN: [400, 409],
  NOT_FOUND: [404, 404],
  INVALID_STATE: [409, 409],
  PROTECTED: [409, 409],
  VERSION_MISMATCH: [412, 412],
  LIMIT_EXCEEDED: [400, 400],
  IDEMPOTENCY_MISMATCH: [422, 422],
  UNAUTHENTICATED: [401, 401],
  FORBIDDEN: [403, 403],
  RATE_LIMITED: [429, 429],
  PROVISIONING_FAILED: [500, 500],
  UNAVAILABLE: [503, 503],
  TIMED_OUT: [504, 504],
  UNSUPPORTED_MEDIA_TYPE: [415, 415],
  PAYLOAD_TOO_LARGE: [413, 413],
  METHOD_NOT_ALLOWED: [405, 405],
  INTERNAL_SERVER_ERROR: [500, 500],
};

/** Codes that contracts B, C and D call differently. */
const otherNames: Partial<Record<ProblemCode, string>> = {
  INVALID: 'VALIDATION_ERROR',
  MALFORMED_JSON: 'VALIDATION_ERROR',
  BAD_USER_INPUT: 'VALIDATION_ERROR',
  TAKEN: 'CONFLICT',
};

/** Every code that `codeForm` may tell. */
export function wireCodes(): string[] {
  return [...new Set((Object.keys(statuses) as ProblemCode[]).map(wireCode))];
}

function wireCode(code: ProblemCode): string {
  return otherNames[code] ?? code;
}

/** Form of contract A: `{"detail": "…"}`, or for 422 a list with a place for each problem. */
export const detailForm: ErrorForm = ({ code, message, issues, headers }) => {
  const status = statuses[code][0];
  const detail =
    status === 422
      ? (issues ?? [{ type: 'value_error', path: [], message }]).map((issue) => ({
          type: issue.type,
          loc: ['body', ...issue.path],
          msg: issue.message,
        }))
      : message;
  return { status, body: { detail }, ...(headers === undefined ? {} : { headers }) };
};

/** Form of contracts B, C and D, and of paths under no contract: `{"error": {"code", "message"}}`. */
export const codeForm: ErrorForm = ({ code, message, issues, headers }) => ({
  status: statuses[code][1],
  body: {
    error: {
      code: wireCode(code),
      message,
      ...(issues === undefined
        ? {}
        : {
            details: issues.map((issue) => ({
              field: issue.path.join('.'),
              message: issue.message,
            })),
          }),
    },
  },
  ...(headers === undefined ? {} : { headers }),
});
