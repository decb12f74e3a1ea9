import type { Knex } from 'knex';
import pLimit from 'p-limit';
import type { Logger } from 'pino';
import {
  batchState,
  cancelQueuedItems,
  endBatch,
  listRunningBatches,
  lockBatch,
  reopenItems,
} from '../control/batches.ts';
import type { OperationQueue } from '../jobs/operation-queue.ts';
import type { EventHints } from '../progress/event-hints.ts';
import { nextMove } from './batch-moves.ts';
import { createItemRuns, type ItemRunsSettings } from './item-runs.ts';
import { cancelLaterItems } from './later-items.ts';
import type { Precedence } from './precedence.ts';
import { repeatLook } from './repeated-look.ts';
import type { Reserved } from './reservation.ts';
import type { Runner } from './runner.ts';
import type { Failpoints } from './step.ts';
import { createWaitingItems } from './waiting-items.ts';

export interface BatchRunsOptions {
  readonly control: Knex;
  readonly queue: OperationQueue;
  readonly hints: EventHints;
  readonly runner: Runner;
  readonly precedence: Pick<Precedence, 'isAwaited' | 'whenFree'>;
  readonly settings: BatchSettings;
  readonly failpoints: Failpoints;
  readonly log: Logger;
}

export interface BatchSettings extends ItemRunsSettings {
  /** Seconds within which items have to begin. */
  readonly batchTimeoutSeconds: number;
}

/**
 * The part of an instance that begins the items of batches, whichever instance accepted them, and
 * brings batches to their end. What is to be done stands in the registry: an instance that dies leaves
 * nothing that another one does not find.
 */
export interface BatchRuns {
  start(): void;
  /** Begins with a batch that was accepted here, with what is known of its items. */
  accept(reserved: readonly Reserved[]): void;
  /** Resolves when a batch has ended, here or elsewhere, or after `timeoutMs` milliseconds. */
  waitForEnd(batchId: string, timeoutMs: number): Promise<void>;
  /** Does what is next for a batch, if anything. Never rejects. */
  advance(batchId: string): Promise<void>;
  /** Whether all that is left to make here of batches has its standby: they are over in a moment. */
  isNearlyOver(): boolean;
  /** Undoes an item that was cancelled before it had begun. Never rejects. */
  undo(batchId: string, operationId: string): Promise<void>;
  /** Begins nothing more. What runs is the runner's. */
  stop(): Promise<void>;
}

/** Result of a move. */
interface Moved {
  /** Operations to undo. */
  readonly undo: readonly string[];
  /** Ids of operations and batches of which there is something to read once it is committed. */
  readonly news: readonly string[];
}

const nothingMoved: Moved = { undo: [], news: [] };

const lookIntervalMs = 1000;

/** Builds the part of an instance that works on batches. */
export function createBatchRuns(options: BatchRunsOptions): BatchRuns {
  const { control, queue, runner, settings, log } = options;
  const waiting = createWaitingItems();
  const items = createItemRuns({ ...options, waiting, onTurn: advance });
  const undoing = pLimit(settings.batchConcurrency);
  const ended = new Map<string, Set<() => void>>();
  let stopped = false;

  /** Does what is next for a batch, if anything: see `nextMove`. Never rejects. */
  async function advance(batchId: string): Promise<void> {
    try {
      const state = await batchState(control, batchId);
      if (state === null) {
        tellEnd(batchId);
        return;
      }
      if (nextMove(state, settings).kind === 'WAIT') return;
      const { undo, news } = await control.transaction((trx) => move(trx, batchId));
      options.hints.send(news);
      for (const id of undo) void undoing(() => undoItem(batchId, id));
      const left = await batchState(control, batchId);
      if (left === null) tellEnd(batchId);
      else if (undo.length === 0 && nextMove(left, settings).kind !== 'WAIT')
        await advance(batchId);
    } catch (error) {
      log.warn({ err: error, batchId }, 'a batch could not be brought forward; it is tried again');
    }
  }

  /** Decides anew under the batch's lock, and records it. */
  async function move(trx: Knex.Transaction, batchId: string): Promise<Moved> {
    if (!(await lockBatch(trx, batchId))) return nothingMoved;
    const state = await batchState(trx, batchId);
    if (state === null) return nothingMoved;
    const next = nextMove(state, settings);
    switch (next.kind) {
      case 'WAIT':
        return nothingMoved;
      case 'CANCEL': {
        const ids = await cancelQueuedItems(trx, batchId, next);
        await queue.lease(trx, ids);
        const news = next.rolledBack
          ? await cancelLaterItems(trx, queue, batchId, next.message)
          : [];
        return { undo: ids, news };
      }
      case 'ROLL_BACK': {
        const ids = await reopenItems(trx, batchId, next.message);
        await queue.enqueueAgain(trx, ids);
        return { undo: ids, news: [] };
      }
      case 'END':
        await endBatch(trx, batchId, next.status);
        return { undo: [], news: [batchId] };
      default:
        return next satisfies never;
    }
  }

  async function undoItem(batchId: string, operationId: string): Promise<void> {
    waiting.forget(operationId);
    if (stopped) return; // its job is there for another instance
    await runner.resume(operationId).catch((error: unknown) => {
      log.warn({ err: error, operationId }, 'the undo of an item is left to its job');
    });
    await advance(batchId);
  }

  function tellEnd(batchId: string): void {
    const waiters = ended.get(batchId);
    ended.delete(batchId);
    for (const tell of waiters ?? []) tell();
  }

  /** Looks after the batches of instances that fell silent, and helps those that are busy. */
  async function lookAround(): Promise<void> {
    const known = waiting.batchIds();
    const running = await listRunningBatches(control);
    if (running.length > 0) items.look();
    for (const batchId of running) await advance(batchId);
    const left = new Set(running);
    for (const batchId of ended.keys()) if (!left.has(batchId)) await advance(batchId);
    for (const batchId of known) if (!left.has(batchId)) waiting.forgetBatch(batchId);
  }

  const around = repeatLook({
    everyMs: lookIntervalMs,
    look: lookAround,
    onError: (error) => {
      log.warn({ err: error }, 'running batches could not be looked up');
    },
  });

  return {
    start() {
      items.start();
      around.start();
    },

    accept(reserved) {
      waiting.add(reserved.filter(({ operation }) => operation.status === 'QUEUED'));
      items.look();
    },

    advance,
    undo: undoItem,
    isNearlyOver: () => items.size + waiting.size > 0 && waiting.areReady,

    async waitForEnd(batchId, timeoutMs) {
      const { promise, resolve } = Promise.withResolvers<undefined>();
      const tell = (): void => {
        resolve(undefined);
      };
      const waiters = ended.get(batchId) ?? new Set();
      ended.set(batchId, waiters.add(tell));
      const giveUp = setTimeout(tell, Math.max(0, timeoutMs));
      // It may have ended before anybody waited for it.
      if ((await batchState(control, batchId)) === null) tell();
      await promise;
      clearTimeout(giveUp);
      waiters.delete(tell);
    },

    async stop() {
      stopped = true;
      waiting.forgetAll();
      await Promise.all([items.stop(), around.stop()]);
    },
  };
}
