import type { Knex } from 'knex';
import { maxHintIds, notifyListeners } from '../control/event-hints.ts';

export interface EventHintsOptions {
  readonly control: Knex;
  /** Called with the first error in a row. Listeners look by themselves, so nothing else depends on it. */
  readonly onError: (error: unknown) => void;
}

/** Hints to the listeners of all instances that there is something to read. Best effort. */
export interface EventHints {
  /**
   * Returns at once; never fails. To be called after the commit.
   *
   * @param ids of operations and batches that have news; none: does nothing
   */
  send(ids: readonly string[]): void;
  /** Resolves when nothing is under way. */
  close(): Promise<void>;
}

/**
 * Builds the sender of hints of an instance. One hint is under way at a time, on one connection; what comes
 * meanwhile is sent together. A hint that fails is not sent again: the next one may be, and a listener that
 * missed one looks within a second.
 */
export function createEventHints({ control, onError }: EventHintsOptions): EventHints {
  let waiting = new Set<string>();
  let sending: Promise<void> | null = null;
  let failing = false;

  async function sendAll(): Promise<void> {
    while (waiting.size > 0) {
      const ids = [...waiting];
      waiting = new Set();
      try {
        await notifyListeners(control, ids.length > maxHintIds ? [] : ids);
        failing = false;
      } catch (error) {
        if (!failing) onError(error);
        failing = true;
      }
    }
    sending = null;
  }

  return {
    send(ids) {
      for (const id of ids) {
        if (waiting.size > maxHintIds) break; // it says 'any' by now
        waiting.add(id);
      }
      if (waiting.size > 0) sending ??= sendAll();
    },
    async close() {
      await sending;
    },
  };
}
