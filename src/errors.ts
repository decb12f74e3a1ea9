/** The codes of `UserErrorCode` in the GraphQL API: what a caller can do something about. */
export const failureCodes = [
  'INVALID',
  'TAKEN',
  'NOT_FOUND',
  'INVALID_STATE',
  'PROTECTED',
  'VERSION_MISMATCH',
  'LIMIT_EXCEEDED',
  'IDEMPOTENCY_MISMATCH',
  'UNAVAILABLE',
  'PROVISIONING_FAILED',
  'TIMED_OUT',
] as const;

export type FailureCode = (typeof failureCodes)[number];

/** One expected failure. Never holds a connection string, password, host or SQL. */
export interface Failure {
  readonly code: FailureCode;
  /** For people: names the field and the rule. */
  readonly message: string;
  /** Path from the argument down, e.g. `['input', 'name']`; null when no field is to blame. */
  readonly field: readonly string[] | null;
}

/** Builds one failure. `field` is the path from the argument down. */
export function failure(
  code: FailureCode,
  message: string,
  field: readonly string[] | null = null,
): Failure {
  return { code, message, field };
}

/** A setting (environment variable) that keeps the product from starting; `setting` is its name. */
export class SettingError extends Error {
  override readonly name = 'SettingError';
  readonly code = 'SETTING';
  readonly setting: string;

  constructor(setting: string, message: string, options?: ErrorOptions) {
    super(`${setting}: ${message}`, options);
    this.setting = setting;
  }
}

/** Why a request is refused as a whole, as a top-level GraphQL error. */
export type RefusalCode =
  'UNAUTHENTICATED' | 'FORBIDDEN' | 'RATE_LIMITED' | 'BAD_USER_INPUT' | 'NOT_FOUND' | 'UNAVAILABLE';

/** A request that is refused as a whole. `retryAfterSeconds` comes with RATE_LIMITED. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly code: RefusalCode;
  readonly retryAfterSeconds: number | undefined;

  constructor(code: RefusalCode, message: string, retryAfterSeconds?: number) {
    super(message);
    this.code = code;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}
