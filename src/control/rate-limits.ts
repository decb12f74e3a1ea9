import { createHash } from 'node:crypto';
import type { Knex } from 'knex';
import { RateLimiterPostgres, RateLimiterRes } from 'rate-limiter-flexible';
import { controlSchema } from './database.ts';

/** How a counted request stands against its limit. */
export interface RateLimitState {
  /** What is counted, for people. */
  readonly name: string;
  readonly allowed: boolean;
  /** Requests a window. */
  readonly limit: number;
  readonly remaining: number;
  /** Seconds until the window starts anew, rounded up. */
  readonly resetSeconds: number;
  readonly windowSeconds: number;
}

/** Counts requests in windows, shared by all instances through the control plane. */
export interface RateLimit {
  /** Counts `points` for this caller. Rejects only when the control plane does not answer. */
  consume(caller: string, points: number): Promise<RateLimitState>;
}

/**
 * A limit of `points` a minute for each caller; null when the limit is 0, which turns it off.
 * The table comes with the control plane's migrations.
 */
export function createRateLimit(control: Knex, name: string, points: number): RateLimit | null {
  if (points === 0) return null;
  const windowSeconds = 60;
  const limiter = new RateLimiterPostgres({
    storeClient: control,
    storeType: 'knex',
    schemaName: controlSchema,
    tableName: 'rate_limits',
    tableCreated: true,
    clearExpiredByTimeout: false,
    keyPrefix: name,
    points,
    duration: windowSeconds,
  });
  return {
    async consume(caller, count) {
      const result = await limiter.consume(keyOf(caller), count).catch((refused: unknown) => {
        if (refused instanceof RateLimiterRes) return refused;
        throw refused;
      });
      return {
        name,
        allowed: result.consumedPoints <= points,
        limit: points,
        remaining: Math.max(0, result.remainingPoints),
        resetSeconds: Math.max(1, Math.ceil(result.msBeforeNext / 1000)),
        windowSeconds,
      };
    },
  };
}

/** Callers' names may be longer than the table's key. */
function keyOf(caller: string): string {
  return Array.from(caller).length <= maxKeyLength
    ? caller
    : createHash('sha256').update(caller).digest('base64url');
}

/** The column has room for 255 characters, with the limit's name in front. */
const maxKeyLength = 200;
