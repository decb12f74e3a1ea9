import { setTimeout as sleep } from 'node:timers/promises';
import type { Knex } from 'knex';
import { findIdempotencyRecord, type IdempotencyKey } from '../control/idempotency.ts';

const pollMs = 250;

/**
 * The operation of an idempotency key, once the key is seen; null: not within `timeoutMs` milliseconds.
 *
 * @throws the signal's reason when it aborts
 */
export async function waitForKey(
  control: Knex,
  key: IdempotencyKey,
  { timeoutMs, signal }: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<string | null> {
  for (const until = Date.now() + timeoutMs; ;) {
    signal.throwIfAborted();
    const record = await findIdempotencyRecord(control, key);
    if (record !== null) return record.operationId;
    if (Date.now() + pollMs > until) return null;
    await sleep(pollMs, undefined, { signal });
  }
}
