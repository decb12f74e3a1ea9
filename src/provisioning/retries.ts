import type { FailureCode } from '../errors.ts';
import { codeOf, errorCodes, isTransient } from '../postgres/error-codes.ts';
import { MigrationError } from '../postgres/migrations.ts';
import { StepFailure } from './step.ts';

/** Whether and when a step that failed is tried again. */
export interface Retries {
  /** Milliseconds until the next attempt; null: there is none. */
  delayAfter(error: unknown, attempt: number): number | null;
}

const transientDelay = { firstMs: 50, maxMs: 2_000 } as const;
const forwardDelay = { firstMs: 100, maxMs: 30_000 } as const;
// Without a free connection an operation is given up so early that it is undone within 10 s. What was
// free in between for longer than any delay begins anew.
const noConnectionMs = 5_000;
const freeAgainMs = 5_000;

/** Repeats what may pass, where a deadline ends it; an operation that only goes forward, whatever failed. */
export function createRetries(forwardOnly: boolean): Retries {
  let full = { since: 0, seen: -Infinity };
  return {
    delayAfter(error, attempt) {
      if (forwardOnly) return backoff(attempt, forwardDelay);
      if (!isTransient(error)) return null;
      const delay = backoff(attempt, transientDelay);
      if (!isFull(error)) return delay;
      const now = performance.now();
      full = { since: now - full.seen > freeAgainMs ? now : full.since, seen: now };
      return now + delay - full.since > noConnectionMs ? null : delay;
    },
  };
}

/** Exponential backoff with full jitter, milliseconds. */
export function backoff(attempt: number, delay: { firstMs: number; maxMs: number }): number {
  const ceiling = Math.min(delay.maxMs, delay.firstMs * 2 ** Math.min(attempt - 1, 20));
  return ceiling / 2 + (Math.random() * ceiling) / 2;
}

function isFull(error: unknown): boolean {
  return codeOf(error) === errorCodes.tooManyConnections;
}

/** What a caller may read of a failed step: behind `Step <name> …`. */
export interface PublicFailure {
  readonly code: FailureCode;
  /** What kept it from its end; null: nothing that a caller may read. */
  readonly cause: string | null;
}

/** Never a host, password, connection string or SQL. */
export function publicFailure(error: unknown): PublicFailure {
  if (error instanceof StepFailure) return { code: error.failureCode, cause: error.message };
  if (isFull(error)) {
    return { code: 'UNAVAILABLE', cause: 'the cluster has no connection free' };
  }
  const code = 'PROVISIONING_FAILED';
  if (error instanceof MigrationError && error.migration !== null) {
    return { code, cause: `tenant migration ${error.migration} ${error.deed}` };
  }
  return { code, cause: null };
}
