import type { Knex } from 'knex';
import type { Logger } from 'pino';
import { appendEvents, listPercents, listSteps } from '../control/events.ts';
import {
  findUntoldOperations,
  holdUntoldOperations,
  listOpenOperations,
  lockOpenOperations,
} from '../control/loose-ends.ts';
import type { OperationQueue } from '../jobs/operation-queue.ts';
import type { EventHints } from '../progress/event-hints.ts';
import { isolationOf } from './isolation/index.ts';
import { repeatLook, type RepeatedLook } from './repeated-look.ts';
import { pipelineOf } from './steps/index.ts';
import { untoldStory } from './untold-story.ts';

export interface LooseEndsOptions {
  readonly control: Knex;
  readonly queue: OperationQueue;
  readonly hints: EventHints;
  readonly log: Logger;
  /** Seconds of silence after which another instance takes an operation over. */
  readonly leaseSeconds: number;
}

const lookIntervalMs = 2_000;
// A writer of events that lives has given up, or has written, long before.
const settledSeconds = 5;

/**
 * Looks, again and again, for what an instance that died may have left in the control plane itself:
 * an operation that ended and whose events do not say so, and an open one without a job.
 */
export function createLooseEnds(options: LooseEndsOptions): RepeatedLook {
  const { control, hints, queue, log, leaseSeconds } = options;
  let since: Date | null = null;

  async function tellUntold(): Promise<void> {
    const { ids, lookedUntil } = await findUntoldOperations(control, since, settledSeconds);
    if (ids.length > 0) hints.send(await control.transaction((trx) => tell(trx, ids)));
    since = lookedUntil;
  }

  /** Returns ids of the operations and batches that have news: see `appendEvents`. */
  async function tell(trx: Knex.Transaction, found: readonly string[]): Promise<string[]> {
    const untold = await holdUntoldOperations(trx, found);
    const ids = untold.map(({ operation }) => operation.id);
    const steps = await listSteps(trx, ids);
    const percents = await listPercents(trx, ids);
    const events = untold.flatMap(({ operation, isolation }) =>
      untoldStory(
        operation,
        pipelineOf(operation.kind, isolationOf(isolation)).steps,
        steps.filter(({ operationId }) => operationId === operation.id),
        percents.get(operation.id) ?? 0,
      ),
    );
    if (events.length === 0) return [];
    const news = await appendEvents(trx, events);
    log.warn({ operationIds: ids }, 'told how operations of a lost instance ended');
    return news;
  }

  async function giveJobs(): Promise<void> {
    const open = await listOpenOperations(control, leaseSeconds + settledSeconds);
    const lacking = open.length === 0 ? [] : await queue.lacking(open);
    if (lacking.length === 0) return;
    await control.transaction(async (trx) => {
      const ids = await lockOpenOperations(trx, lacking);
      if (ids.length === 0) return;
      await queue.enqueueAgain(trx, ids);
      log.warn({ operationIds: ids }, 'open operations had no job; they have one again');
    });
  }

  return repeatLook({
    everyMs: lookIntervalMs,
    look: async () => {
      await tellUntold();
      await giveJobs();
    },
    onError: (error) => {
      log.warn({ err: error }, 'loose ends could not be looked for; it is tried again');
    },
  });
}
