import { randomUUID } from 'node:crypto';
import type { Knex } from 'knex';
import { appendAudit } from '../control/audit.ts';
import { insertIdempotencyRecord } from '../control/idempotency.ts';
import { hasOpenOperation, insertOperation, type OperationKind } from '../control/operations.ts';
import { findTenantDatabases } from '../control/tenant-databases.ts';
import { lockTenant, type Tenant, type TenantStatus } from '../control/tenants.ts';
import { failure } from '../errors.ts';
import type { OperationQueue } from '../jobs/operation-queue.ts';
import { brokenConstraint } from '../postgres/error-codes.ts';
import { scopeOf } from './caller.ts';
import { idempotencyOf, type Idempotency } from './idempotency.ts';
import { looksLikeUuid } from './names.ts';
import type { Outcomes } from './outcomes.ts';
import type { Placement } from './placement.ts';
import { refused, type Request, type TenantOutcome } from './request.ts';
import type { AcceptedOperation } from './runner.ts';
import { mayBecome } from './states.ts';
import { isForwardOnly } from './steps/index.ts';

export interface LifecycleInput {
  /** The tenant's. */
  readonly id: string;
  /** Refused when the tenant is at another one. */
  readonly expectedVersion?: number | null | undefined;
  readonly idempotencyKey?: string | null | undefined;
  /** Default true: resolve when the operation has ended. */
  readonly wait?: boolean | null | undefined;
}

export interface LifecycleOptions {
  readonly control: Knex;
  readonly queue: OperationQueue;
  readonly outcomes: Outcomes;
  readonly placement: Pick<Placement, 'problemOf'>;
  /** Deadline of one operation, seconds. */
  readonly operationTimeoutSeconds: number;
  readonly idempotencyTtlHours: number;
}

/** One change of a tenant's status: what the mutations of its life have in common. */
interface Change {
  readonly mutation: string;
  readonly kind: OperationKind;
  readonly to: TenantStatus;
  /** Refused while the tenant is protected. */
  readonly protectable: boolean;
}

const deletion: Change = {
  mutation: 'deleteTenant',
  kind: 'DELETE',
  to: 'DELETED',
  protectable: true,
};

/** What can be done to a tenant that exists. Asked for twice, the second time does nothing. */
export interface Lifecycle {
  /** Soft: nobody can log in, the data stays until `purgeAt`, names stay taken. */
  deleteTenant(request: Request, input: LifecycleInput): Promise<TenantOutcome>;
}

/** Builds the mutations of a tenant's life. */
export function createLifecycle(options: LifecycleOptions): Lifecycle {
  return {
    deleteTenant: (request, input) => change(options, deletion, request, input),
  };
}

async function change(
  options: LifecycleOptions,
  wanted: Change,
  request: Request,
  input: LifecycleInput,
): Promise<TenantOutcome> {
  const { outcomes } = options;
  const { idempotencyKey, wait, ...payload } = input;
  const waits = wait ?? true;
  const keyed = idempotencyOf(request, wanted.mutation, idempotencyKey ?? null, payload);
  if ('failures' in keyed) return refused(...keyed.failures);
  const { idempotency } = keyed;
  if (idempotency !== null) {
    const replayed = await outcomes.replay(request, idempotency, waits);
    if (replayed !== null) return replayed;
  }
  if (!looksLikeUuid(input.id)) return refused(notFound());
  const accepted = await options.control
    .transaction((trx) => accept(trx, options, wanted, request, input, idempotency))
    .catch((error: unknown) => {
      if (brokenConstraint(error) === 'idempotency_records_pkey') return null;
      throw error;
    });
  if (accepted !== null && !('failures' in accepted)) return outcomes.run(accepted, waits, null);
  // An equal request may have been faster: then its answer is this one's too.
  const replayed = idempotency === null ? null : await outcomes.replay(request, idempotency, waits);
  return replayed ?? accepted ?? change(options, wanted, request, input);
}

/** Records the operation, or tells why not. The tenant's row is locked: one change at a time. */
async function accept(
  trx: Knex.Transaction,
  options: LifecycleOptions,
  { kind, mutation, protectable, to }: Change,
  request: Request,
  { id: tenantId, expectedVersion }: LifecycleInput,
  idempotency: Idempotency | null,
): Promise<AcceptedOperation | TenantOutcome> {
  const tenant = await lockTenant(trx, scopeOf(request.caller), tenantId);
  if (tenant === null || tenant.status === 'FAILED' || tenant.status === 'PURGED') {
    return refused(notFound());
  }
  // Asked before it is tried: an insert would wait for the open operation's end, which may be waiting
  // for this very row.
  if (await hasOpenOperation(trx, tenantId)) return refused(busy());
  if (tenant.status === to) return { tenant, operation: null, apiKey: null, failures: [] };
  if (expectedVersion != null && expectedVersion !== tenant.version) {
    return refused(otherVersion(tenant, expectedVersion));
  }
  if (!mayBecome(tenant.status, to)) return refused(wrongState(tenant, to));
  if (protectable && tenant.deletionProtection) return refused(protectedTenant());
  const [database] = await findTenantDatabases(trx, [tenantId]);
  if (database === undefined) throw new Error(`tenant ${tenantId} has no database row`);
  const problem = options.placement.problemOf(database.cluster);
  if (problem !== null) return refused(unavailable(problem));

  const deadlineSeconds = isForwardOnly(kind) ? null : options.operationTimeoutSeconds;
  const operation = await insertOperation(trx, {
    id: randomUUID(),
    kind,
    tenantId,
    partner: tenant.partner,
    actor: request.caller.subject,
    requestId: request.requestId,
    secretsEncrypted: null,
    deadlineSeconds,
  });
  await options.queue.enqueue(trx, operation.id);
  if (idempotency !== null) {
    await insertIdempotencyRecord(trx, idempotency.key, {
      payloadHash: idempotency.payloadHash,
      operationId: operation.id,
      apiKeyEncrypted: null,
      ttlHours: options.idempotencyTtlHours,
    });
  }
  await appendAudit(trx, {
    actor: request.caller.subject,
    partner: tenant.partner,
    ipAddress: request.ipAddress,
    action: mutation,
    tenantId,
    fromStatus: tenant.status,
    toStatus: to,
    outcome: 'ACCEPTED',
    requestId: request.requestId,
  });
  const remainingMs = deadlineSeconds === null ? null : deadlineSeconds * 1000;
  return { operation, tenant, database, secrets: null, remainingMs, percent: 0 };
}

const idPath = ['input', 'id'] as const;

function notFound() {
  return failure('NOT_FOUND', 'There is no tenant with this id', idPath);
}

function otherVersion({ version }: Tenant, expected: number) {
  const message = `The tenant is at version ${version}, not ${expected}`;
  return failure('VERSION_MISMATCH', message, ['input', 'expectedVersion']);
}

function busy() {
  return failure('INVALID_STATE', 'Another operation on this tenant is under way', idPath);
}

function unavailable(problem: string) {
  return failure('UNAVAILABLE', `The tenant cannot be changed at present: ${problem}`, idPath);
}

function protectedTenant() {
  return failure('PROTECTED', 'Deletion protection of this tenant is on', idPath);
}

function wrongState({ status }: Tenant, to: TenantStatus) {
  return failure('INVALID_STATE', `A tenant that is ${status} cannot become ${to}`, idPath);
}
