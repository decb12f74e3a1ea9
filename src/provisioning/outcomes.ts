import type { Knex } from 'knex';
import { findIdempotencyRecord } from '../control/idempotency.ts';
import { findOperation, type Operation } from '../control/operations.ts';
import { findTenant } from '../control/tenants.ts';
import type { KeyRing } from '../crypto/envelope.ts';
import { failure, type Failure } from '../errors.ts';
import { waitForEnd } from '../progress/wait-for-end.ts';
import { scopeOf } from './caller.ts';
import { idempotencyMismatch, type Idempotency } from './idempotency.ts';
import { refused, type Request, type TenantOutcome } from './request.ts';
import { apiKeyPurpose } from './record-tenant.ts';
import type { AcceptedOperation, Runner } from './runner.ts';
import type { EndedOperation } from './step.ts';

/** Waits for operations and tells what came of them, run here, elsewhere, or long ago. */
export interface Outcomes {
  /** Runs an operation accepted here. `waits` false: answers at once. */
  run(accepted: AcceptedOperation, waits: boolean, apiKey: string | null): Promise<TenantOutcome>;
  /** The answer of an earlier request with this key; null when there was none. */
  replay(request: Request, idempotency: Idempotency, waits: boolean): Promise<TenantOutcome | null>;
}

// An answer that waits comes at the latest this long after the operation's deadline, or, where it has
// none, after its begin.
const waitBeyondDeadlineMs = 15_000;

/** Builds what tells the outcomes of one instance's mutations. */
export function createOutcomes(options: {
  readonly control: Knex;
  readonly keyRing: KeyRing;
  readonly runner: Runner;
}): Outcomes {
  const { control, keyRing, runner } = options;

  async function read({ id, tenantId }: Operation): Promise<EndedOperation> {
    const [operation, tenant] = await Promise.all([
      findOperation(control, null, id),
      findTenant(control, null, { id: tenantId }),
    ]);
    if (operation === null || tenant === null) throw new Error(`operation ${id} is gone`);
    return { operation, tenant };
  }

  function describe({ operation, tenant }: EndedOperation, apiKey: string | null): TenantOutcome {
    const error = endingFailure(operation);
    if (error === null) return { tenant, operation, apiKey, failures: [] };
    // A tenant that could not be made is never reported; one that was there before still is.
    const shown = operation.kind === 'CREATE' ? null : tenant;
    return { tenant: shown, operation, apiKey: null, failures: [error] };
  }

  return {
    async run(accepted, waits, apiKey) {
      const { operation, tenant } = accepted;
      const running = runner.start(accepted);
      if (!waits) return { tenant, operation, apiKey: null, failures: [] };
      const endedHere = await waitForEnd(control, operation.id, {
        timeoutMs: (accepted.remainingMs ?? 0) + waitBeyondDeadlineMs,
        // Ended here is the common case; anything else is found in the table.
        local: running.then(({ ended }) => ended !== null),
      });
      const ended = endedHere ? (await running).ended : null;
      return describe(ended ?? (await read(operation)), apiKey);
    },

    async replay(request, { key, payloadHash }, waits) {
      const record = await findIdempotencyRecord(control, key);
      if (record?.operationId == null) return null;
      if (!record.payloadHash.equals(payloadHash)) return refused(idempotencyMismatch());
      const operation = await findOperation(control, scopeOf(request.caller), record.operationId);
      if (operation === null) return null;
      if (operation.finishedAt === null) {
        // Nobody waits for what begins some day.
        if (!waits || operation.status === 'SCHEDULED') {
          const tenant = await findTenant(control, null, { id: operation.tenantId });
          return { tenant, operation, apiKey: null, failures: [] };
        }
        const last = operation.deadlineAt ?? operation.startedAt ?? operation.createdAt;
        const left = last.getTime() - Date.now();
        await waitForEnd(control, operation.id, { timeoutMs: left + waitBeyondDeadlineMs });
      }
      const sealed = record.apiKeyEncrypted;
      const apiKey =
        sealed === null ? null : keyRing.open(sealed, apiKeyPurpose, operation.tenantId);
      return describe(await read(operation), apiKey);
    },
  };
}

/** Why an operation has ended without success, or has not ended; null: it succeeded. */
export function endingFailure(operation: Operation): Failure | null {
  switch (operation.status) {
    case 'SUCCEEDED':
      return null;
    case 'SCHEDULED':
    case 'QUEUED':
    case 'RUNNING':
    case 'COMPENSATING':
      return failure('TIMED_OUT', 'The operation has not ended in time; follow it by its id');
    case 'COMPENSATED':
    case 'FAILED':
    case 'CANCELLED':
      return failure(
        operation.errorCode ?? 'PROVISIONING_FAILED',
        `${operation.errorMessage ?? 'The operation failed'}. Everything was undone.`,
      );
    default:
      return operation.status satisfies never;
  }
}
