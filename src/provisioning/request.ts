import type { Operation } from '../control/operations.ts';
import type { RateLimitState } from '../control/rate-limits.ts';
import type { Tenant } from '../control/tenants.ts';
import type { Failure } from '../errors.ts';
import type { Caller } from './caller.ts';

/** Who asks, and how. One for each HTTP request, stream or WebSocket operation. */
export interface Request {
  readonly caller: Caller;
  readonly requestId: string;
  readonly ipAddress: string | null;
  /** From the HTTP header. */
  readonly idempotencyKey: string | null;
  /** Some contracts hand out an API key only when one is asked for. */
  readonly apiKeyOnCreate: boolean;
  /** Told how the caller stands against a limit that was counted, for the answer's headers. */
  readonly onRateLimit: (state: RateLimitState) => void;
}

/** What came of a mutation on a tenant. */
export interface TenantOutcome {
  readonly tenant: Tenant | null;
  /** Null when nothing had to be done, or nothing was accepted. */
  readonly operation: Operation | null;
  /** Shown once; null when there is none, or the tenant is not active. */
  readonly apiKey: string | null;
  readonly failures: readonly Failure[];
}

/** The outcome of a request that was refused: nothing was recorded. */
export function refused(...failures: readonly Failure[]): TenantOutcome {
  return { tenant: null, operation: null, apiKey: null, failures };
}
