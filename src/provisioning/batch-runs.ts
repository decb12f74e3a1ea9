import { setImmediate } from 'node:timers/promises';
import type { Knex } from 'knex';
import pLimit from 'p-limit';
import type { Logger } from 'pino';
import {
  batchState,
  beginItems,
  cancelQueuedItems,
  endBatch,
  listRunningBatches,
  lockBatch,
  reopenItems,
} from '../control/batches.ts';
import type { Operation } from '../control/operations.ts';
import type { OperationQueue } from '../jobs/operation-queue.ts';
import { nextMove } from './batch-moves.ts';
import { cancelLaterItems } from './later-items.ts';
import type { Precedence } from './precedence.ts';
import { repeatLook } from './repeated-look.ts';
import type { Reserved } from './reservation.ts';
import type { RunEnd } from './pipeline.ts';
import type { Runner } from './runner.ts';
import { createWaitingItems } from './waiting-items.ts';

export interface BatchRunsOptions {
  readonly control: Knex;
  readonly queue: OperationQueue;
  readonly runner: Runner;
  readonly precedence: Pick<Precedence, 'isAwaited' | 'whenFree'>;
  readonly settings: BatchSettings;
  readonly log: Logger;
}

export interface BatchSettings {
  /** Items of one batch at once over all instances, and of all batches on one instance. */
  readonly batchConcurrency: number;
  /** Seconds within which items have to begin. */
  readonly batchTimeoutSeconds: number;
  /** Deadline of one operation, seconds. */
  readonly operationTimeoutSeconds: number;
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

const lookIntervalMs = 1000;

/** Builds the part of an instance that works on batches. */
export function createBatchRuns(options: BatchRunsOptions): BatchRuns {
  const { control, precedence, queue, runner, settings, log } = options;
  const waiting = createWaitingItems();
  const undoing = pLimit(settings.batchConcurrency);
  const ended = new Map<string, Set<() => void>>();
  /** The items that are made here, and their batches. */
  const working = new Map<string, string | null>();
  let stopped = false;
  let looking: Promise<void> | null = null;
  let lookAgain = false;
  /** The last look left places free, for somebody who waited. */
  let held = false;

  // Asked again after something was waited for.
  const isStopped = (): boolean => stopped;

  /** Begins as many items as there is room for; one look at a time. */
  function look(): void {
    lookAgain = true;
    // Of several that end at once the places are filled together.
    looking ??= setImmediate()
      .then(beginAll)
      .finally(() => {
        looking = null;
        if (lookAgain && !stopped) look();
      });
  }

  async function beginAll(): Promise<void> {
    lookAgain = false;
    // While somebody waits for a single tenant no more begin than keep batches from standing still.
    const most = precedence.isAwaited() ? 1 : settings.batchConcurrency;
    const limit = most - working.size;
    held = precedence.isAwaited();
    if (limit <= 0 || stopped) return;
    if (!held) waiting.logInNext(limit + settings.batchConcurrency);
    try {
      const items = await control.transaction(async (trx) => {
        const begun = await beginItems(trx, {
          concurrency: settings.batchConcurrency,
          limit,
          timeoutSeconds: settings.operationTimeoutSeconds,
        });
        await queue.lease(
          trx,
          begun.map(({ id }) => id),
        );
        return begun;
      });
      // Begun while this instance was told to stop: another one goes on with them at once.
      if (isStopped()) await Promise.all(items.map(({ id }) => queue.handBack(id)));
      else for (const item of items) void work(item);
    } catch (error) {
      log.warn({ err: error }, 'items of batches could not be begun');
    }
  }

  async function work(operation: Operation): Promise<void> {
    const { batchId } = operation;
    working.set(operation.id, batchId);
    const end = await make(operation);
    working.delete(operation.id);
    look();
    // While others of it are made here, one that succeeded decides nothing: the last of them asks.
    const isLast = [...working.values()].every((other) => other !== batchId);
    if (batchId !== null && (isLast || end !== 'SUCCEEDED')) await advance(batchId);
  }

  /** Answers with how it ended here; null: it could not begin. */
  async function make(operation: Operation): Promise<RunEnd | null> {
    const reserved = waiting.take(operation.id);
    try {
      if (reserved === undefined) return await runner.begin(operation);
      const remainingMs = settings.operationTimeoutSeconds * 1000;
      return (await runner.start({ ...reserved, operation, remainingMs, percent: 0 })).end;
    } catch (error) {
      log.error({ err: error, operationId: operation.id }, 'an item of a batch failed');
      return null;
    }
  }

  /** Does what is next for a batch, if anything: see `nextMove`. Never rejects. */
  async function advance(batchId: string): Promise<void> {
    try {
      const state = await batchState(control, batchId);
      if (state === null) {
        tellEnd(batchId);
        return;
      }
      if (nextMove(state, settings).kind === 'WAIT') return;
      const undo = await control.transaction((trx) => move(trx, batchId));
      for (const id of undo) void undoing(() => undoItem(batchId, id));
      const left = await batchState(control, batchId);
      if (left === null) tellEnd(batchId);
      else if (undo.length === 0 && nextMove(left, settings).kind !== 'WAIT')
        await advance(batchId);
    } catch (error) {
      log.warn({ err: error, batchId }, 'a batch could not be brought forward; it is tried again');
    }
  }

  /** Decides anew under the batch's lock, and records it. Answers with the operations to undo. */
  async function move(trx: Knex.Transaction, batchId: string): Promise<readonly string[]> {
    if (!(await lockBatch(trx, batchId))) return [];
    const state = await batchState(trx, batchId);
    if (state === null) return [];
    const next = nextMove(state, settings);
    switch (next.kind) {
      case 'WAIT':
        return [];
      case 'CANCEL': {
        const ids = await cancelQueuedItems(trx, batchId, next);
        await queue.lease(trx, ids);
        if (next.rolledBack) await cancelLaterItems(trx, queue, batchId, next.message);
        return ids;
      }
      case 'ROLL_BACK': {
        const ids = await reopenItems(trx, batchId, next.message);
        await queue.enqueueAgain(trx, ids);
        return ids;
      }
      case 'END':
        await endBatch(trx, batchId, next.status);
        return [];
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
    if (running.length > 0) look();
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
      precedence.whenFree(() => {
        if (held) look();
      });
      around.start();
    },

    accept(reserved) {
      waiting.add(reserved.filter(({ operation }) => operation.status === 'QUEUED'));
      look();
    },

    advance,
    undo: undoItem,
    isNearlyOver: () => working.size + waiting.size > 0 && waiting.areReady,

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
      await Promise.all([looking, around.stop()]);
    },
  };
}
