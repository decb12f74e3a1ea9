import type { Knex } from 'knex';
import type { Logger } from 'pino';
import { appendAudit } from '../control/audit.ts';
import type { Operation } from '../control/operations.ts';
import { beginDueOperations, isAnythingDue, releaseDueItems } from '../control/scheduled.ts';
import type { OperationQueue } from '../jobs/operation-queue.ts';
import type { BatchRuns, BatchSettings } from './batch-runs.ts';
import type { ClusterWatch } from './cluster-watch.ts';
import { repeatLook, type RepeatedLook } from './repeated-look.ts';
import type { Runner } from './runner.ts';

export interface ScheduledRunsOptions {
  readonly control: Knex;
  readonly queue: OperationQueue;
  readonly runner: Pick<Runner, 'begin'>;
  readonly runs: Pick<BatchRuns, 'accept'>;
  readonly watch: Pick<ClusterWatch, 'states' | 'takesTenants'>;
  readonly settings: BatchSettings;
  readonly log: Logger;
}

const lookIntervalMs = 1000;

/**
 * The part of an instance that begins creations at their time, whichever instance accepted them. What is
 * due stands in the registry: no instance has to remember it, or to be there all the while.
 */
export function createScheduledRuns(options: ScheduledRunsOptions): RepeatedLook {
  const { control, queue, runner, runs, settings, watch, log } = options;
  let working = 0;

  async function look(): Promise<void> {
    if (!(await isAnythingDue(control))) return;
    const released = await control.transaction(async (trx) => {
      const items = await releaseDueItems(trx, settings.batchTimeoutSeconds);
      await auditBegun(trx, items);
      return items;
    });
    if (released.length > 0) runs.accept([]); // there is something to begin with
    const limit = settings.batchConcurrency - working;
    if (limit <= 0) return;
    const clusters = [...watch.states().keys()].filter((name) => watch.takesTenants(name));
    const begun = await control.transaction(async (trx) => {
      const operations = await beginDueOperations(trx, {
        clusters,
        limit,
        timeoutSeconds: settings.operationTimeoutSeconds,
      });
      if (operations.length === 0) return operations;
      await queue.enqueueAgain(
        trx,
        operations.map(({ id }) => id),
      );
      await auditBegun(trx, operations);
      return operations;
    });
    for (const operation of begun) void work(operation);
  }

  async function work(operation: Operation): Promise<void> {
    working += 1;
    log.info({ operationId: operation.id }, 'scheduled operation begins');
    await runner.begin(operation, null);
    working -= 1;
  }

  return repeatLook({
    everyMs: lookIntervalMs,
    look,
    onError: (error) => {
      log.warn({ err: error }, 'scheduled operations could not be looked up');
    },
  });
}

async function auditBegun(trx: Knex.Transaction, operations: readonly Operation[]): Promise<void> {
  await appendAudit(
    trx,
    ...operations.map(
      ({ actor, partner, requestId, tenantId }) =>
        ({
          actor,
          partner,
          ipAddress: null,
          action: 'beginScheduledTenant',
          tenantId,
          fromStatus: 'SCHEDULED',
          toStatus: 'PROVISIONING',
          outcome: 'ACCEPTED',
          requestId,
        }) as const,
    ),
  );
}
