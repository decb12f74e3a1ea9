import { randomUUID } from 'node:crypto';
import type { Knex } from 'knex';
import { insertBatch, insertRefusals, type Batch, type BatchItem } from '../control/batches.ts';
import { sentTogether } from '../control/database.ts';
import {
  findIdempotencyRecord,
  insertBatchApiKeys,
  insertIdempotencyRecord,
} from '../control/idempotency.ts';
import { countOnCluster, lockCluster } from '../control/tenant-databases.ts';
import type { Failure } from '../errors.ts';
import { brokenConstraint, isTransient } from '../postgres/error-codes.ts';
import { chooseItems, type Choice, type ItemReservation } from './batch-choice.ts';
import type { BatchSettings } from './batch-runs.ts';
import type { Idempotency } from './idempotency.ts';
import {
  apiKeyPurpose,
  planTenant,
  recordPlanned,
  Refused,
  type PlannedTenant,
} from './record-tenant.ts';
import type { Reserved, ReserveServices } from './reservation.ts';
import { secondsUntil } from './schedule.ts';
import type { ClaimedStandby, StandbyClaims } from './standby-claims.ts';

/** A checked request for a batch. */
export interface BatchReservation {
  readonly partner: string;
  readonly atomic: boolean;
  /** All items, the refused ones included. */
  readonly total: number;
  /** Items that are good so far, in the order of the request. */
  readonly items: readonly ItemReservation[];
  readonly refusals: readonly Pick<BatchItem, 'index' | 'failures'>[];
  readonly idempotency: Idempotency | null;
}

export type BatchReserveOutcome =
  | { readonly batch: Batch; readonly reserved: readonly Reserved[] }
  /** Of an atomic batch: nothing was recorded. */
  | { readonly failures: readonly Failure[] }
  /** The same idempotency key was recorded by another request meanwhile. */
  | { readonly replay: true }
  /** Clusters that have less room than they were given items: nothing was recorded. */
  | { readonly room: ReadonlyMap<string, number> };

/** Ends a transaction that found clusters with too little room. */
class TooFull extends Error {
  readonly room: ReadonlyMap<string, number>;

  constructor(room: ReadonlyMap<string, number>) {
    super('clusters have too little room');
    this.room = room;
  }
}

/** Ends a transaction whose idempotency key an equal request has recorded meanwhile. */
class Recorded extends Error {}

async function isRecorded(
  trx: Knex.Transaction,
  idempotency: Idempotency | null,
): Promise<boolean> {
  if (idempotency === null) return false;
  return (await findIdempotencyRecord(trx, idempotency.key)) !== null;
}

// What was free when it was looked up and is taken by another request before the insert is found out
// by the next try. More than a few of these in a row are no accident.
const tries = 10;

/**
 * Records a batch with all its tenants, operations and jobs in ONE transaction, in the places of
 * standbys as far as some are ready.
 */
export async function reserveBatch(
  services: ReserveServices & { readonly settings: BatchSettings },
  reservation: BatchReservation,
): Promise<BatchReserveOutcome> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      const recorded = await services.control.transaction((trx) =>
        recordBatch(trx, services, reservation),
      );
      const used = recorded.reserved.filter(({ findings }) => findings.prepared === true);
      for (const name of new Set(used.map(({ database }) => database.cluster))) {
        services.standbys.claimed(name);
      }
      return recorded;
    } catch (error) {
      if (error instanceof TooFull) return { room: error.room };
      if (error instanceof Recorded) return { replay: true };
      if (error instanceof Refused) return { failures: error.failures };
      const constraint = brokenConstraint(error);
      if (constraint === 'idempotency_records_pkey') return { replay: true };
      if ((constraint === undefined && !isTransient(error)) || attempt === tries) throw error;
    }
  }
}

async function recordBatch(
  trx: Knex.Transaction,
  services: ReserveServices & { readonly settings: BatchSettings },
  reservation: BatchReservation,
): Promise<{ readonly batch: Batch; readonly reserved: readonly Reserved[] }> {
  const { atomic, idempotency, partner, total } = reservation;
  const { keyRing, queue, settings, standbys } = services;
  await refuseFullClusters(trx, reservation.items);
  const { chosen, refusals: found } = await chooseItems(trx, settings, reservation.items);
  // What is taken may have been taken by this very request, sent twice at once.
  if (found.length > 0 && (await isRecorded(trx, idempotency))) throw new Recorded();
  const refusals = [...reservation.refusals, ...found];
  if (atomic && refusals.length > 0) {
    const ordered = refusals.toSorted((a, b) => a.index - b.index);
    throw new Refused(...ordered.flatMap(({ failures }) => failures));
  }
  const batchId = randomUUID();
  const until = Math.max(0, ...chosen.map(({ item }) => secondsUntil(item.command.provisionAt)));
  const [batch, claims] = await sentTogether([
    insertBatch(trx, {
      id: batchId,
      partner,
      atomic,
      total,
      timeoutSeconds: settings.batchTimeoutSeconds + until,
      provisionAt: chosen.some(isForNow) ? null : firstOf(chosen),
      hasItems: chosen.length > 0,
    }),
    claimFor(trx, standbys, chosen),
    insertRefusals(trx, batchId, refusals),
  ]);
  if (chosen.length === 0) return { batch, reserved: [] };
  const planned = chosen.map(({ item, slug }, place): PlannedTenant => ({
    ...planTenant(services, item, slug, claims.get(place) ?? null, {}),
    batch: { id: batchId, index: item.index },
  }));
  const [reserved] = await sentTogether([
    recordPlanned(trx, services, planned, (ids) =>
      queue.enqueueWaiting(trx, ids, settings.batchTimeoutSeconds + until),
    ),
    idempotency === null
      ? null
      : insertIdempotencyRecord(trx, idempotency.key, {
          payloadHash: idempotency.payloadHash,
          operationId: null,
          batchId,
          apiKeyEncrypted: null,
          ttlHours: settings.idempotencyTtlHours + Math.ceil(until / 3600),
        }),
  ]);
  if (idempotency !== null) {
    const sealed = planned.flatMap(({ apiKey, plan: { tenantId } }) =>
      apiKey === null
        ? []
        : [{ tenantId, apiKeyEncrypted: keyRing.seal(apiKey.key, apiKeyPurpose, tenantId) }],
    );
    await insertBatchApiKeys(trx, idempotency.key, sealed);
  }
  return { batch, reserved };
}

/**
 * What is ready for these items, by their place: for the last ones of each pool. Those that have to be
 * made take longer, and begin first.
 */
async function claimFor(
  trx: Knex.Transaction,
  standbys: StandbyClaims,
  chosen: Choice['chosen'],
): Promise<ReadonlyMap<number, ClaimedStandby>> {
  const claims = new Map<number, ClaimedStandby>();
  // Nothing stands by for days: what is made later looks for a place then.
  const placed = chosen.flatMap(({ item: { cluster, command } }, place) =>
    command.provisionAt === undefined
      ? [{ place, cluster: cluster.name, isolation: command.isolation }]
      : [],
  );
  const pools = Map.groupBy(placed, ({ cluster, isolation }) => `${isolation} ${cluster}`);
  for (const [, items] of [...pools].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const [first] = items;
    if (first === undefined) continue;
    const { cluster, isolation } = first;
    const ready = await standbys.claimSeveral(trx, cluster, isolation, items.length);
    for (const [index, { place }] of items.slice(items.length - ready.length).entries()) {
      const standby = ready[index];
      if (standby !== undefined) claims.set(place, standby);
    }
  }
  return claims;
}

interface Chosen {
  readonly item: ItemReservation;
}

function isForNow({ item: { command } }: Chosen): boolean {
  return command.provisionAt === undefined;
}

/** When the first of them begins; null: there are none. */
function firstOf(chosen: readonly Chosen[]): Date | null {
  const moments = chosen.flatMap(({ item: { command } }) => command.provisionAt?.getTime() ?? []);
  return moments.length === 0 ? null : new Date(Math.min(...moments));
}

/** Counts under locks that are held until the commit, taken in one order by everybody. */
async function refuseFullClusters(
  trx: Knex.Transaction,
  items: readonly ItemReservation[],
): Promise<void> {
  const room = new Map<string, number>();
  const byCluster = Map.groupBy(items, ({ cluster }) => cluster.name);
  for (const [name, given] of [...byCluster].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const maxTenants = given[0]?.cluster.maxTenants ?? null;
    if (maxTenants === null) continue;
    await lockCluster(trx, name);
    const free = Math.max(0, maxTenants - (await countOnCluster(trx, name)));
    if (free < given.length) room.set(name, free);
  }
  if (room.size > 0) throw new TooFull(room);
}
