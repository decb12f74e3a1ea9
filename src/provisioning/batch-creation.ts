import { z } from 'zod';
import { batchState, findBatch, type Batch, type BatchItem } from '../control/batches.ts';
import { findIdempotencyRecord, listBatchApiKeys } from '../control/idempotency.ts';
import { failure, type Failure } from '../errors.ts';
import { inItem, type ItemReservation } from './batch-choice.ts';
import { roleNameProblem } from './role-names.ts';
import { reserveBatch } from './batch-reserve.ts';
import type { BatchRuns, BatchSettings } from './batch-runs.ts';
import { scopeOf } from './caller.ts';
import { platformPartner } from './partner-names.ts';
import { createTenantSchema, parseCommand } from './commands.ts';
import { countCreations, refuseForCaller, type CreateTenantOptions } from './creation.ts';
import type { CreationOptions } from './creation.ts';
import { idempotencyMismatch, idempotencyOf, type Idempotency } from './idempotency.ts';
import { apiKeyPurpose } from './record-tenant.ts';
import type { Request } from './request.ts';
import type { ReserveServices } from './reservation.ts';
import { provisionTime } from './schedule.ts';

export interface CreateTenantsBatchOptions {
  readonly tenants: readonly CreateTenantOptions[];
  /** Default false: each by itself. */
  readonly atomic?: boolean | null | undefined;
  readonly idempotencyKey?: string | null | undefined;
  /** When they are to be made, where one says nothing else. */
  readonly provisionAt?: Date | null | undefined;
  /** Default true: resolve when all have ended. */
  readonly wait?: boolean | null | undefined;
}

/** What came of a batch. */
export interface BatchOutcome {
  /** Null: nothing was recorded. */
  readonly batch: Batch | null;
  /** Keys by tenant, to be shown once, and only of tenants that were made. */
  readonly apiKeys: ReadonlyMap<string, string>;
  readonly failures: readonly Failure[];
}

/**
 * Creates tenants together: checks all of the input, records what is good of it in one transaction,
 * and leaves the making to whichever instances have room.
 *
 * @throws Refusal RATE_LIMITED
 */
export type CreateTenantsBatch = (
  request: Request,
  input: CreateTenantsBatchOptions,
) => Promise<BatchOutcome>;

export interface BatchCreationOptions extends Omit<CreationOptions, 'outcomes' | 'reserve'> {
  readonly reserve: ReserveServices & { readonly settings: BatchSettings };
  readonly runs: BatchRuns;
  readonly maxTenantsPerBatch: number;
}

/** An item that can be reserved, or why it cannot. */
type CheckedItem = ItemReservation | Pick<BatchItem, 'index' | 'failures'>;

const batchTime = z.object({ provisionAt: provisionTime().nullish() });

// An answer that waits comes at the latest this long after the last item's deadline.
const waitBeyondDeadlineMs = 15_000;

/** Builds `createTenantsBatch`. */
export function createBatchCreation(options: BatchCreationOptions): CreateTenantsBatch {
  const { maxTenantsPerBatch, reserve, runs } = options;
  const { control, keyRing, settings } = reserve;
  const schema = createTenantSchema(options.rules);

  return async function createTenantsBatch(request, input): Promise<BatchOutcome> {
    const { idempotencyKey, wait, ...payload } = input;
    const waits = wait ?? true;
    const keyed = idempotencyOf(request, 'createTenantsBatch', idempotencyKey ?? null, payload);
    if ('failures' in keyed) return refused(...keyed.failures);
    const { idempotency } = keyed;
    const replayed = await replay(request, idempotency, waits);
    if (replayed !== null) return replayed; // costs the caller nothing of its limit
    const size = sizeProblem(input.tenants.length, maxTenantsPerBatch);
    if (size !== null) return refused(size);
    const moment = parseCommand(batchTime, { provisionAt: input.provisionAt }, ['input']);
    if ('failures' in moment) return refused(...moment.failures);
    await countCreations(request, options.creationLimit, input.tenants.length);

    const room = new Map<string, number>();
    for (;;) {
      const checked = await refuseRoleNames(checkItems(request, input, room));
      const refusals = checked.filter((item) => 'failures' in item);
      const items = checked.flatMap((item) => ('failures' in item ? [] : [item]));
      const atomic = input.atomic ?? false;
      const outcome = await reserveBatch(reserve, {
        partner: request.caller.partner ?? platformPartner,
        atomic,
        total: checked.length,
        items,
        refusals,
        idempotency,
      });
      if ('failures' in outcome) return refused(...outcome.failures);
      if ('room' in outcome) {
        for (const [name, free] of outcome.room) room.set(name, free);
        continue;
      }
      if ('replay' in outcome) {
        const earlier = await replay(request, idempotency, waits);
        // The other request failed and freed the key between the two looks.
        return earlier ?? createTenantsBatch(request, input);
      }
      runs.accept(outcome.reserved);
      const apiKeys = new Map(
        outcome.reserved.flatMap(({ apiKey, tenant }) =>
          apiKey === null ? [] : [[tenant.id, apiKey] as const],
        ),
      );
      return settle(outcome.batch, waits, apiKeys);
    }
  };

  /** Refuses items whose schema would be called like a role of its cluster. */
  async function refuseRoleNames(items: readonly CheckedItem[]): Promise<CheckedItem[]> {
    const named = items.flatMap((item) =>
      'command' in item && item.command.schemaName !== undefined
        ? [{ cluster: item.cluster.name, index: item.index, name: item.command.schemaName }]
        : [],
    );
    const clashing = new Map<number, string>();
    for (const [cluster, ofCluster] of Map.groupBy(named, (one) => one.cluster)) {
      const found = await options.roleNames.among(
        cluster,
        ofCluster.map(({ name }) => name),
      );
      for (const { index, name } of ofCluster) if (found.has(name)) clashing.set(index, name);
    }
    return items.map((item) => {
      const { index } = item;
      const name = clashing.get(index);
      return name === undefined
        ? item
        : { index, failures: [inItem(roleNameProblem(name), index)] };
    });
  }

  /** Every item's problems at once, or where it goes. Clusters in `room` take no more than that. */
  function checkItems(
    request: Request,
    { atomic, provisionAt, tenants }: CreateTenantsBatchOptions,
    room: ReadonlyMap<string, number>,
  ): CheckedItem[] {
    const placed = new Map<string, number>();
    return tenants.map((tenant, index) => {
      const { idempotencyKey, wait, ...own } = tenant;
      const payload = { ...own, provisionAt: own.provisionAt ?? provisionAt };
      const parsed = parseCommand(schema, payload, ['input']);
      const failures = [
        ...('failures' in parsed ? parsed.failures : []),
        ...refuseForCaller(request.caller, payload),
        ...notInBatch({
          idempotencyKey,
          wait,
          // All at once, or all are undone: not some of them some day.
          ...(atomic === true ? { provisionAt: own.provisionAt } : {}),
        }),
      ];
      const full = new Set(
        [...room].filter(([name, free]) => (placed.get(name) ?? 0) >= free).map(([name]) => name),
      );
      // Only what is good so far takes a turn in the placement; of others, a name may be wrong too.
      const place =
        failures.length === 0 || payload.cluster != null
          ? options.placement.place(payload.cluster ?? undefined, full)
          : null;
      if (place !== null && 'failure' in place) failures.push(place.failure);
      if ('failures' in parsed || failures.length > 0 || place === null || 'failure' in place) {
        return { index, failures: failures.map((problem) => inItem(problem, index)) };
      }
      placed.set(place.cluster.name, (placed.get(place.cluster.name) ?? 0) + 1);
      return {
        index,
        command: parsed.command,
        partner: parsed.command.partner ?? request.caller.partner ?? platformPartner,
        cluster: place.cluster,
        actor: request.caller.subject,
        ipAddress: request.ipAddress,
        requestId: request.requestId,
        apiKey: request.apiKeyOnCreate,
        idempotency: null,
      };
    });
  }

  /** The answer of an earlier request with this key; null when there was none. */
  async function replay(
    request: Request,
    idempotency: Idempotency | null,
    waits: boolean,
  ): Promise<BatchOutcome | null> {
    if (idempotency === null) return null;
    const record = await findIdempotencyRecord(control, idempotency.key);
    if (record?.batchId == null) return null;
    if (!record.payloadHash.equals(idempotency.payloadHash)) return refused(idempotencyMismatch());
    const batch = await findBatch(control, scopeOf(request.caller), record.batchId);
    if (batch === null) return null;
    const sealed = await listBatchApiKeys(control, idempotency.key);
    const apiKeys = sealed.map(
      ({ apiKeyEncrypted, tenantId }) =>
        [tenantId, keyRing.open(apiKeyEncrypted, apiKeyPurpose, tenantId)] as const,
    );
    return settle(batch, waits, new Map(apiKeys));
  }

  /** Nobody waits for what begins some day. */
  async function isForLater(batchId: string): Promise<boolean> {
    return ((await batchState(control, batchId))?.scheduled ?? 0) > 0;
  }

  async function settle(
    accepted: Batch,
    waits: boolean,
    apiKeys: ReadonlyMap<string, string>,
  ): Promise<BatchOutcome> {
    if (!waits || accepted.finishedAt !== null || (await isForLater(accepted.id))) {
      return { batch: accepted, apiKeys: shownKeys(accepted, apiKeys), failures: [] };
    }
    const left = accepted.deadlineAt.getTime() - Date.now();
    const operationMs = settings.operationTimeoutSeconds * 1000;
    await runs.waitForEnd(accepted.id, left + operationMs + waitBeyondDeadlineMs);
    const batch = await findBatch(control, null, accepted.id);
    if (batch === null) throw new Error(`batch ${accepted.id} is gone`);
    const message = 'The batch has not ended in time; follow it by its id';
    const failures = batch.finishedAt === null ? [failure('TIMED_OUT', message)] : [];
    return { batch, apiKeys: shownKeys(batch, apiKeys), failures };
  }
}

const none: ReadonlyMap<string, string> = new Map();

/** No key of an atomic batch is handed out before all of it was made. */
function shownKeys(
  { atomic, status }: Batch,
  apiKeys: ReadonlyMap<string, string>,
): ReadonlyMap<string, string> {
  return atomic && status !== 'SUCCEEDED' ? none : apiKeys;
}

function sizeProblem(count: number, most: number): Failure | null {
  const field = ['input', 'tenants'];
  if (count === 0) return failure('INVALID', 'tenants must hold at least one tenant', field);
  if (count <= most) return null;
  const message = `A batch may hold at most ${most} tenants; this one holds ${count}`;
  return failure('LIMIT_EXCEEDED', message, field);
}

function notInBatch(fields: Readonly<Record<string, unknown>>): Failure[] {
  return Object.entries(fields)
    .filter(([, value]) => value != null)
    .map(([field]) =>
      failure('INVALID', `${field} belongs to the batch, not to one of its tenants`, [
        'input',
        field,
      ]),
    );
}

function refused(...failures: readonly Failure[]): BatchOutcome {
  return { batch: null, apiKeys: none, failures };
}
