import type { Knex } from 'knex';
import type { Logger } from 'pino';
import { appendAudit } from '../control/audit.ts';
import { findOperation, type Operation } from '../control/operations.ts';
import {
  cancelQueuedItem,
  cancelScheduled,
  lockOperation,
  tellCancelled,
  type CancelReason,
} from '../control/scheduled.ts';
import { failure, type Failure } from '../errors.ts';
import type { OperationQueue } from '../jobs/operation-queue.ts';
import { brokenConstraint } from '../postgres/error-codes.ts';
import type { EventHints } from '../progress/event-hints.ts';
import type { BatchRuns } from './batch-runs.ts';
import { scopeOf } from './caller.ts';
import { findUse, idempotencyOf, recordUse, type Idempotency } from './idempotency.ts';
import { looksLikeUuid } from './names.ts';
import type { Request } from './request.ts';

/** What came of a change of an operation. */
export interface OperationOutcome {
  readonly operation: Operation | null;
  readonly failures: readonly Failure[];
}

/**
 * Cancels a creation that has not begun: its tenant is FAILED, its names are free. Of an atomic batch,
 * which is made as a whole or not at all, that cancels all others too.
 */
export type CancelOperation = (
  request: Request,
  input: {
    /** The operation's. */
    readonly id: string;
    readonly idempotencyKey?: string | null | undefined;
  },
) => Promise<OperationOutcome>;

export interface CancellationOptions {
  readonly control: Knex;
  readonly queue: OperationQueue;
  readonly hints: EventHints;
  readonly runs: Pick<BatchRuns, 'undo' | 'advance'>;
  readonly idempotencyTtlHours: number;
  readonly log: Logger;
}

const onRequest: CancelReason = {
  code: 'PROVISIONING_FAILED',
  message: 'Cancelled on request, before it had begun',
  rolledBack: false,
};

/** Builds `cancelOperation`. */
export function createCancellation(options: CancellationOptions): CancelOperation {
  const { control, hints, log, runs } = options;

  return async function cancelOperation(request, input): Promise<OperationOutcome> {
    const { idempotencyKey, ...payload } = input;
    const keyed = idempotencyOf(request, 'cancelOperation', idempotencyKey ?? null, payload);
    if ('failures' in keyed) return refused(...keyed.failures);
    const { idempotency } = keyed;
    const replayed = await replay(control, request, input.id, idempotency);
    if (replayed !== null) return replayed;
    if (!looksLikeUuid(input.id)) return refused(notFound());
    try {
      const accepted = await control.transaction((trx) =>
        accept(trx, options, request, input.id, idempotency),
      );
      if ('failures' in accepted) {
        // An equal request may have been faster: then its answer is this one's too.
        return (await replay(control, request, input.id, idempotency)) ?? accepted;
      }
      const { operation } = accepted;
      if (operation.status === 'CANCELLED') {
        try {
          hints.send(await tellCancelled(control, [operation]));
        } catch (error) {
          log.warn({ err: error }, 'the end of a cancelled operation could not be told');
        }
        if (operation.batchId !== null) await runs.advance(operation.batchId);
      } else if (operation.batchId !== null) {
        await runs.undo(operation.batchId, operation.id); // a standby may stand in its place already
      }
    } catch (error) {
      if (brokenConstraint(error) !== 'idempotency_records_pkey') throw error;
      return (
        (await replay(control, request, input.id, idempotency)) ?? cancelOperation(request, input)
      );
    }
    return { operation: await findOperation(control, null, input.id), failures: [] };
  };
}

async function accept(
  trx: Knex.Transaction,
  { idempotencyTtlHours, queue }: CancellationOptions,
  request: Request,
  id: string,
  idempotency: Idempotency | null,
): Promise<{ readonly operation: Operation } | OperationOutcome> {
  const found = await lockOperation(trx, scopeOf(request.caller), id);
  if (found === null) return refused(notFound());
  if (found.status !== 'SCHEDULED' && found.status !== 'QUEUED') {
    const message = `An operation that is ${found.status} cannot be cancelled`;
    return { operation: found, failures: [failure('INVALID_STATE', message, idPath)] };
  }
  let operation = found;
  if (found.status === 'SCHEDULED') {
    [operation = found] = await cancelScheduled(trx, { id }, onRequest);
    await queue.complete(trx, [id]);
  } else {
    await cancelQueuedItem(trx, id, onRequest);
    await queue.lease(trx, [id]);
  }
  if (idempotency !== null) {
    // By the tenant: what is kept under the operation goes with it.
    await recordUse(trx, idempotency, found.tenantId, idempotencyTtlHours);
  }
  await appendAudit(trx, {
    actor: request.caller.subject,
    partner: found.partner,
    ipAddress: request.ipAddress,
    action: 'cancelOperation',
    tenantId: found.tenantId,
    fromStatus: found.status === 'SCHEDULED' ? 'SCHEDULED' : 'PROVISIONING',
    toStatus: 'FAILED',
    outcome: 'ACCEPTED',
    requestId: request.requestId,
    details: { operationId: id },
  });
  return { operation };
}

async function replay(
  control: Knex,
  { caller }: Request,
  id: string,
  idempotency: Idempotency | null,
): Promise<OperationOutcome | null> {
  const found = await findUse(control, idempotency);
  if (found === null) return null;
  if ('failures' in found) return refused(...found.failures);
  const operation = await findOperation(control, scopeOf(caller), id);
  return operation === null ? refused(notFound()) : { operation, failures: [] };
}

const idPath = ['input', 'id'] as const;

function notFound(): Failure {
  return failure('NOT_FOUND', 'There is no operation with this id', idPath);
}

function refused(...failures: readonly Failure[]): OperationOutcome {
  return { operation: null, failures };
}
