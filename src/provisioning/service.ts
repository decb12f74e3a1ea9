import { createHash } from 'node:crypto';
import type { Knex } from 'knex';
import { findIdempotencyRecord, type IdempotencyKey } from '../control/idempotency.ts';
import { findOperation, type Operation } from '../control/operations.ts';
import type { RateLimit, RateLimitState } from '../control/rate-limits.ts';
import { findTenant, type Tenant } from '../control/tenants.ts';
import type { KeyRing } from '../crypto/envelope.ts';
import { failure, Refusal, type Failure } from '../errors.ts';
import { waitForEnd } from '../progress/wait-for-end.ts';
import { identityOf, platformPartner, scopeOf, type Caller } from './caller.ts';
import {
  createTenantSchema,
  idempotencyKeySchema,
  parseCommand,
  type CommandRules,
  type CreateTenantCommand,
  type CreateTenantInput,
} from './commands.ts';
import { isolationKinds } from './isolation/index.ts';
import { placeTenant, type Placement } from './placement.ts';
import { apiKeyPurpose, reserveTenant, type Reserved, type ReserveServices } from './reserve.ts';
import type { Runner } from './runner.ts';

/** Who asks, and how. One for each HTTP request, stream or WebSocket operation. */
export interface Request {
  readonly caller: Caller;
  readonly requestId: string;
  readonly ipAddress: string | null;
  /** From the HTTP header. */
  readonly idempotencyKey: string | null;
  /** Some contracts hand out an API key only when one is asked for. */
  readonly apiKeyOnCreate: boolean;
  /** Told how the caller stands against a limit that was counted, for the answer's headers. */
  readonly onRateLimit: (state: RateLimitState) => void;
}

export interface CreateTenantOptions extends CreateTenantInput {
  readonly idempotencyKey?: string | null | undefined;
  /** Default true: resolve when the operation has ended. */
  readonly wait?: boolean | null | undefined;
}

/** What came of a mutation on a tenant. */
export interface TenantOutcome {
  readonly tenant: Tenant | null;
  readonly operation: Operation | null;
  /** Shown once; null when there is none, or the tenant is not active. */
  readonly apiKey: string | null;
  readonly failures: readonly Failure[];
}

export interface ProvisioningService {
  /**
   * Creates a tenant: checks the input, records it with its operation in one transaction, and runs the
   * pipeline at once.
   *
   * @throws Refusal RATE_LIMITED
   */
  createTenant(request: Request, input: CreateTenantOptions): Promise<TenantOutcome>;
}

export interface ProvisioningOptions {
  readonly control: Knex;
  readonly keyRing: KeyRing;
  readonly runner: Runner;
  readonly reserve: ReserveServices;
  readonly placement: Placement;
  readonly rules: CommandRules;
  /** Null: off. */
  readonly creationLimit: RateLimit | null;
}

// An answer that waits comes at the latest this long after the operation's deadline.
const waitBeyondDeadlineMs = 15_000;

/** Builds the domain's front door: what resolvers call. */
export function createProvisioning(options: ProvisioningOptions): ProvisioningService {
  const { control, runner, keyRing } = options;
  const createSchema = createTenantSchema(options.rules);

  async function createTenant(
    request: Request,
    input: CreateTenantOptions,
  ): Promise<TenantOutcome> {
    const { idempotencyKey, wait, ...payload } = input;
    const key = chooseKey(request, idempotencyKey ?? null);
    if (key !== null && 'failures' in key) return failed(key.failures);
    const idempotency =
      key === null
        ? null
        : { key: bind(request.caller, key.key), payloadHash: hashPayload(payload) };
    const waits = wait ?? true;
    if (idempotency !== null) {
      const replayed = await replay(request, idempotency, waits);
      if (replayed !== null) return replayed;
    }
    await countCreation(request);

    const parsed = parseCommand(createSchema, payload, ['input']);
    const failures =
      'failures' in parsed ? parsed.failures : refuseForCaller(request.caller, parsed.command);
    if ('failures' in parsed || failures.length > 0) return failed(failures);
    const { command } = parsed;
    const cluster = placeTenant(options.placement, command.cluster);
    if ('failure' in cluster) return failed([cluster.failure]);

    const outcome = await reserveTenant(options.reserve, {
      command,
      partner: command.partner ?? request.caller.partner ?? platformPartner,
      cluster: cluster.name,
      actor: request.caller.subject,
      ipAddress: request.ipAddress,
      requestId: request.requestId,
      apiKey: request.apiKeyOnCreate,
      idempotency,
    });
    if ('failures' in outcome) return failed(outcome.failures);
    if ('replay' in outcome) {
      const replayed = idempotency === null ? null : await replay(request, idempotency, waits);
      // The other request failed and freed the key between the two looks.
      return replayed ?? createTenant(request, input);
    }
    return run(outcome.reserved, waits);
  }

  async function run(reserved: Reserved, waits: boolean): Promise<TenantOutcome> {
    const { operation, tenant, database, secrets, apiKey } = reserved;
    const timeoutMs = options.reserve.settings.operationTimeoutSeconds * 1000;
    const ending = runner.start({
      operation,
      tenant,
      database,
      secrets,
      remainingMs: timeoutMs,
      percent: 0,
    });
    if (!waits) return { tenant, operation, apiKey: null, failures: [] };
    await waitForEnd(control, operation.id, {
      timeoutMs: timeoutMs + waitBeyondDeadlineMs,
      // Ended here is the common case; anything else is found in the table.
      local: ending.then((end) => end === 'SUCCEEDED' || end === 'COMPENSATED'),
    });
    return describe(operation, apiKey);
  }

  /** The outcome of an operation as it stands in the registry. */
  async function describe(
    { id, tenantId }: Pick<Operation, 'id' | 'tenantId'>,
    apiKey: string | null,
  ): Promise<TenantOutcome> {
    const [operation, tenant] = await Promise.all([
      findOperation(control, null, id),
      findTenant(control, null, { id: tenantId }),
    ]);
    if (operation === null) throw new Error(`operation ${id} is gone`);
    const error = endingFailure(operation);
    if (error !== null) return { tenant: null, operation, apiKey: null, failures: [error] };
    return { tenant, operation, apiKey, failures: [] };
  }

  /** The answer of an earlier request with this key; null when there was none. */
  async function replay(
    request: Request,
    { key, payloadHash }: { key: IdempotencyKey; payloadHash: Buffer },
    waits: boolean,
  ): Promise<TenantOutcome | null> {
    const record = await findIdempotencyRecord(control, key);
    if (record === null) return null;
    if (!record.payloadHash.equals(payloadHash)) {
      const message = 'This idempotency key was used with another payload';
      return failed([failure('IDEMPOTENCY_MISMATCH', message, ['input', 'idempotencyKey'])]);
    }
    const operation = await findOperation(control, scopeOf(request.caller), record.operationId);
    if (operation === null) return null;
    if (operation.finishedAt === null) {
      if (!waits) {
        const tenant = await findTenant(control, null, { id: operation.tenantId });
        return { tenant, operation, apiKey: null, failures: [] };
      }
      const left = operation.deadlineAt.getTime() - Date.now();
      await waitForEnd(control, operation.id, { timeoutMs: left + waitBeyondDeadlineMs });
    }
    const sealed = record.apiKeyEncrypted;
    const apiKey = sealed === null ? null : keyRing.open(sealed, apiKeyPurpose, operation.tenantId);
    return describe(operation, apiKey);
  }

  async function countCreation({ caller, onRateLimit }: Request): Promise<void> {
    const state = await options.creationLimit?.consume(identityOf(caller), 1);
    if (state === undefined) return;
    onRateLimit(state);
    if (!state.allowed) {
      const message = `More than ${String(state.limit)} creations a minute`;
      throw new Refusal('RATE_LIMITED', message, state.resetSeconds);
    }
  }

  return { createTenant };
}

function failed(failures: readonly Failure[]): TenantOutcome {
  return { tenant: null, operation: null, apiKey: null, failures };
}

/** Rules that depend on who asks, or on what is built into this version. */
function refuseForCaller(caller: Caller, command: CreateTenantCommand): Failure[] {
  const failures: Failure[] = [];
  if (
    command.partner !== undefined &&
    caller.partner !== null &&
    command.partner !== caller.partner
  ) {
    const message = 'partner may be named by platform administrators and the local operator only';
    failures.push(failure('INVALID', message, ['input', 'partner']));
  }
  if (isolationKinds[command.isolation] === undefined) {
    const message = `isolation ${command.isolation} is not available`;
    failures.push(failure('INVALID', message, ['input', 'isolation']));
  }
  return failures;
}

function endingFailure(operation: Operation): Failure | null {
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

function chooseKey(
  request: Request,
  fromInput: string | null,
): { readonly key: string } | { readonly failures: readonly Failure[] } | null {
  const path = ['input', 'idempotencyKey'];
  if (
    fromInput !== null &&
    request.idempotencyKey !== null &&
    fromInput !== request.idempotencyKey
  ) {
    const message = 'idempotencyKey and the Idempotency-Key header differ';
    return { failures: [failure('INVALID', message, path)] };
  }
  const key = fromInput ?? request.idempotencyKey;
  if (key === null) return null;
  const parsed = parseCommand(idempotencyKeySchema, key, path);
  return 'failures' in parsed ? parsed : { key: parsed.command };
}

function bind(caller: Caller, key: string): IdempotencyKey {
  return { caller: identityOf(caller), mutation: 'createTenant', key };
}

/** SHA-256 over the payload as sent, fields in the order of their names, absent and null alike. */
function hashPayload(payload: object): Buffer {
  const canonical = JSON.stringify(payload, (_key, value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(
          Object.entries(value)
            .filter(([, inner]) => inner !== null && inner !== undefined)
            .sort(([a], [b]) => (a < b ? -1 : 1)),
        )
      : value,
  );
  return createHash('sha256').update(canonical).digest();
}
