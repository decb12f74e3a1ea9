import { setTimeout as sleep } from 'node:timers/promises';
import type { Knex } from 'knex';
import {
  findIdempotencyRecord,
  type IdempotencyKey,
  type IdempotencyRecord,
} from '../control/idempotency.ts';

const pollMs = 250;

/**
 * The record of an idempotency key under one of these mutations, once the key is seen; null: not
 * within `timeoutMs` milliseconds.
 *
 * @throws the signal's reason when it aborts
 */
export async function waitForKey(
  control: Knex,
  keys: readonly IdempotencyKey[],
  { timeoutMs, signal }: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<IdempotencyRecord | null> {
  for (const until = Date.now() + timeoutMs; ;) {
    signal.throwIfAborted();
    const records = await look(control, keys);
    const record = records.find((found) => found !== null);
    if (record !== undefined) return record;
    if (Date.now() + pollMs > until) return null;
    await sleep(pollMs, undefined, { signal });
  }
}

type Look = Promise<readonly (IdempotencyRecord | null)[]>;

const looks = new WeakMap<Knex, Map<string, Look>>();

/** One look, about as often, for all who wait for the same. */
function look(control: Knex, keys: readonly IdempotencyKey[]): Look {
  const under = looks.get(control) ?? new Map<string, Look>();
  looks.set(control, under);
  const name = JSON.stringify(keys);
  let present = under.get(name);
  if (present === undefined) {
    present = Promise.all(keys.map((key) => findIdempotencyRecord(control, key)));
    under.set(name, present);
    const forget = (): boolean => under.delete(name);
    present.then(() => setTimeout(forget, pollMs / 2).unref(), forget);
  }
  return present;
}
