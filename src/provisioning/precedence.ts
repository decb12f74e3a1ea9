import { setTimeout as sleep } from 'node:timers/promises';
import pLimit, { type LimitFunction } from 'p-limit';

/**
 * Who goes first on an instance: whoever waits for one tenant, before batches and what is made ahead.
 * Copies of databases at once slow each other down, and everything else on their cluster.
 */
export interface Precedence {
  /** Runs `work` for somebody who waits for it. */
  awaited<T>(work: () => Promise<T>): Promise<T>;
  /** Whether somebody waits. */
  isAwaited(): boolean;
  /** Has `listener` called whenever nobody waits any more. */
  whenFree(listener: () => void): void;
  /**
   * Resolves when nobody waits, and after a while in any case: asked between the steps of what is made for
   * a batch, so that it takes nothing from whoever waits, and does not stand still.
   */
  giveWay(): Promise<void>;
  /**
   * Runs `work` that copies a database for a batch: as many at once on a cluster as make it faster, and
   * one while somebody waits and for a second after, so that a batch never stands still. Who makes one
   * tenant goes on with the next, and a copy that is under way then has to be borne to its end.
   *
   * @throws the signal's reason when it aborts before its turn
   */
  inTurn<T>(cluster: string, work: () => Promise<T>, signal: AbortSignal): Promise<T>;
}

// A create by itself takes less, and a batch has minutes.
const giveWayMs = 250;
// A third one makes each slower and all of them no faster: see bench/results/batch.md.
const copiesAtOnce = { alone: 2, beside: 1 } as const;
const lingerMs = 1_000;

/** Builds the precedence of an instance. */
export function createPrecedence(): Precedence {
  const turns = new Map<string, LimitFunction>();
  const listeners: (() => void)[] = [];
  let free = Promise.withResolvers<undefined>();
  let waiting = 0;
  let copies: number = copiesAtOnce.alone;
  let lingering: NodeJS.Timeout | undefined;

  function count(change: 1 | -1): void {
    waiting += change;
    clearTimeout(lingering);
    copyAtOnce(copiesAtOnce.beside);
    if (waiting > 0) return;
    lingering = setTimeout(copyAtOnce, lingerMs, copiesAtOnce.alone).unref();
    free.resolve(undefined);
    free = Promise.withResolvers();
    for (const listener of listeners) listener();
  }

  function copyAtOnce(most: number): void {
    copies = most;
    for (const limit of turns.values()) limit.concurrency = most;
  }

  return {
    async awaited(work) {
      count(1);
      try {
        return await work();
      } finally {
        count(-1);
      }
    },

    isAwaited: () => waiting > 0,
    whenFree: (listener) => {
      listeners.push(listener);
    },

    async giveWay() {
      if (waiting === 0) return;
      const enough = new AbortController();
      await Promise.race([
        free.promise,
        sleep(giveWayMs, undefined, { signal: enough.signal }).catch(() => undefined),
      ]);
      enough.abort();
    },

    inTurn(cluster, work, signal) {
      let limit = turns.get(cluster);
      if (limit === undefined) {
        limit = pLimit(copies);
        turns.set(cluster, limit);
      }
      return limit(() => {
        signal.throwIfAborted();
        return work();
      });
    },
  };
}
