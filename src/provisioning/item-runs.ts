import { setImmediate } from 'node:timers/promises';
import type { Knex } from 'knex';
import type { Logger } from 'pino';
import { beginItems, type ItemRoom } from '../control/begin-items.ts';
import type { Operation } from '../control/operations.ts';
import type { OperationQueue } from '../jobs/operation-queue.ts';
import type { RunEnd } from './pipeline.ts';
import type { Precedence } from './precedence.ts';
import type { Runner } from './runner.ts';
import type { BegunItems, Failpoints, NextItems } from './step.ts';
import type { WaitingItems } from './waiting-items.ts';

export interface ItemRunsOptions {
  readonly control: Knex;
  readonly queue: OperationQueue;
  readonly runner: Runner;
  readonly precedence: Pick<Precedence, 'isAwaited' | 'whenFree'>;
  /** What is known here of those that have not begun. */
  readonly waiting: WaitingItems;
  readonly settings: ItemRunsSettings;
  readonly failpoints: Failpoints;
  /** Told when what is next for a batch may have to be decided. */
  readonly onTurn: (batchId: string) => Promise<void>;
  readonly log: Logger;
}

export interface ItemRunsSettings {
  /** Items of one batch at once over all instances, and of all batches on one instance. */
  readonly batchConcurrency: number;
  /** Deadline of one operation, seconds. */
  readonly operationTimeoutSeconds: number;
}

/** The items of batches that an instance makes, whichever instance accepted them. */
export interface ItemRuns {
  /** How many are made here now. */
  readonly size: number;
  start(): void;
  /** Begins as many as there is room for; one look at a time. */
  look(): void;
  /** Begins nothing more. What runs is the runner's. */
  stop(): Promise<void>;
}

/** Builds the places of an instance for items of batches. */
export function createItemRuns(options: ItemRunsOptions): ItemRuns {
  const { control, precedence, queue, runner, settings, waiting, log } = options;
  /** The items that are made here, and their batches. */
  const working = new Map<string, string | null>();
  /** Places for which items are about to begin. */
  let filling = 0;
  let stopped = false;
  let looking: Promise<void> | null = null;
  let lookAgain = false;
  /** The last look left places free, for somebody who waited. */
  let held = false;

  const nextItems: NextItems = { beginIn };

  const warn = (error: unknown): void => {
    log.warn({ err: error }, 'items of batches could not be begun');
  };

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
    const limit = most - working.size - filling;
    held = precedence.isAwaited();
    if (limit <= 0 || stopped) return;
    if (!held) waiting.logInNext(limit + settings.batchConcurrency);
    filling += limit;
    try {
      await startAll(await control.transaction((trx) => begin(trx, { limit })));
    } catch (error) {
      warn(error);
    } finally {
      filling -= limit;
    }
  }

  /** Begins items, and leases them to this instance. */
  async function begin(
    trx: Knex.Transaction,
    room: Pick<ItemRoom, 'limit' | 'unlessLocked'>,
  ): Promise<readonly Operation[]> {
    const begun = await beginItems(trx, {
      ...room,
      concurrency: settings.batchConcurrency,
      timeoutSeconds: settings.operationTimeoutSeconds,
    });
    await queue.lease(
      trx,
      begun.map(({ id }) => id),
    );
    return begun;
  }

  async function startAll(items: readonly Operation[]): Promise<void> {
    // Begun while this instance was told to stop: another one goes on with them at once.
    if (stopped) await Promise.all(items.map(({ id }) => queue.handBack(id)));
    else for (const item of items) void work(item);
  }

  /** See `NextItems`. */
  async function beginIn(trx: Knex.Transaction, ending: readonly string[]): Promise<BegunItems> {
    const left = [...working.keys()].filter((id) => !ending.includes(id)).length;
    const room = settings.batchConcurrency - left - filling;
    // Whoever waits for a single tenant goes first: see `beginAll`.
    const limit = stopped || precedence.isAwaited() ? 0 : Math.max(0, room);
    if (limit > 0) waiting.logInNext(limit + settings.batchConcurrency);
    filling += limit;
    const abandon = (): void => {
      filling -= limit;
    };
    try {
      const items = limit === 0 ? [] : await begin(trx, { limit, unlessLocked: true });
      const start = async (): Promise<void> => {
        try {
          if (items.length > 0) await options.failpoints.reach('next_items:begun');
          await startAll(items);
        } catch (error) {
          warn(error);
        } finally {
          abandon();
        }
      };
      return { start, abandon };
    } catch (error) {
      abandon();
      throw error;
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
    if (batchId !== null && (isLast || end !== 'SUCCEEDED')) await options.onTurn(batchId);
  }

  /** Answers with how it ended here; null: it could not begin. */
  async function make(operation: Operation): Promise<RunEnd | null> {
    const reserved = waiting.take(operation.id);
    try {
      if (reserved === undefined) return await runner.begin(operation, nextItems);
      const remainingMs = settings.operationTimeoutSeconds * 1000;
      const known = { ...reserved, operation, remainingMs, percent: 0, nextItems };
      return (await runner.start(known)).end;
    } catch (error) {
      log.error({ err: error, operationId: operation.id }, 'an item of a batch failed');
      return null;
    }
  }

  return {
    get size() {
      return working.size;
    },

    start() {
      precedence.whenFree(() => {
        if (held) look();
      });
    },

    look,

    async stop() {
      stopped = true;
      await looking;
    },
  };
}
