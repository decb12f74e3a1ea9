import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import {
  keepStandbys,
  listStandbys,
  releaseStandbys,
  withdrawStandby,
  type Standby,
} from '../control/standbys.ts';
import type { IsolationKind } from '../control/tenants.ts';
import type { Cluster } from '../postgres/cluster.ts';
import { isolationKinds } from './isolation/index.ts';
import { buildStandby, dropStandby, refreshStandby } from './standby-build.ts';
import {
  createStandbyClaims,
  recipeHash,
  reserveOf,
  type StandbyClaims,
  type StandbyCounts,
} from './standby-claims.ts';
import type { StepServices } from './step.ts';

export interface StandbysOptions {
  readonly services: StepServices;
  /** How many of each kind every cluster keeps ready. */
  readonly counts: StandbyCounts;
  /** Whether tenants are made here: standbys can wait. */
  readonly isBusy: () => boolean;
  /** Whether somebody waits, or what runs is over in a moment: so can those that are needed next wait. */
  readonly isAwaited: () => boolean;
  /** The longest that making one may take, milliseconds. */
  readonly buildTimeoutMs: number;
  readonly log: Logger;
}

/** Keeps the pools of standbys filled, up to date and no larger than they should be. */
export interface Standbys {
  readonly claims: StandbyClaims;
  /** Begins to keep the pools, in the background. */
  start(): void;
  /** Finishes what is being made, or gives it up after `graceMs` milliseconds. */
  stop(graceMs: number): Promise<void>;
}

const kinds = Object.keys(isolationKinds) as IsolationKind[];
const lookMs = 5_000;
// Prolonged while one is made: when it runs out, its keeper has died or stalled, and another instance
// drops what is half made.
const keeperSeconds = 15;
const keepEveryMs = 4_000;
const quiet = { pollMs: 25, forMs: 50, atMostMs: 2_000 } as const;

/** What one look at a cluster's standbys says is to be done, the most urgent first. */
export type StandbyChore =
  | { readonly kind: 'drop' | 'refresh'; readonly standby: Standby }
  | { readonly kind: 'build'; readonly isolation: IsolationKind }
  | null;

/**
 * The next thing to do for a cluster's pools: first what is left half made, then what is too many or
 * behind, then what lacks.
 *
 * @param isKnown whether a standby's newest migration is one of this instance's: one that a newer
 *   instance made is left to it
 */
export function nextChore(
  standbys: readonly Standby[],
  counts: StandbyCounts,
  recipe: Buffer,
  isKnown: (migrationVersion: string | null) => boolean,
): StandbyChore {
  const half = standbys.find(({ status }) => status !== 'READY');
  if (half !== undefined) return { kind: 'drop', standby: half };
  for (const isolation of kinds) {
    const pool = standbys.filter((standby) => standby.isolation === isolation);
    const surplus = pool.slice(counts[isolation]).at(-1);
    if (surplus !== undefined) return { kind: 'drop', standby: surplus };
    const behind = pool.find(
      (standby) => !standby.recipeHash.equals(recipe) && isKnown(standby.migrationVersion),
    );
    if (behind !== undefined) return { kind: 'refresh', standby: behind };
  }
  const lacking = kinds.find(
    (isolation) =>
      standbys.filter((standby) => standby.isolation === isolation).length < counts[isolation],
  );
  return lacking === undefined ? null : { kind: 'build', isolation: lacking };
}

/**
 * Whether a pool has less than a batch leaves in it: then making another one comes before the batch's
 * own tenants, or whoever asks for a single one meanwhile would find none ready.
 */
export function isUrgent(
  chore: NonNullable<StandbyChore>,
  standbys: readonly Standby[],
  counts: StandbyCounts,
): boolean {
  if (chore.kind !== 'build') return false;
  const { isolation } = chore;
  const ready = standbys.filter(
    (standby) => standby.isolation === isolation && standby.status === 'READY',
  );
  return ready.length < reserveOf(counts[isolation]);
}

/** Builds the keeper of an instance. */
export function createStandbys(options: StandbysOptions): Standbys {
  const { services, counts, isAwaited, isBusy, buildTimeoutMs, log } = options;
  const { control, tenantMigrations } = services;
  const keeper = randomUUID();
  const recipe = recipeHash(services);
  const versions = new Set<string | null>([
    null,
    ...tenantMigrations.files.map(({ name }) => name),
  ]);
  const stopping = new AbortController();
  const givenUp = new AbortController();
  const isStopping = (): boolean => stopping.signal.aborted;
  /** How often standbys of a cluster were claimed here. */
  const claims = new Map<string, number>();
  const wanted = new Map<string, PromiseWithResolvers<undefined>>();
  const keeping: Promise<void>[] = [];

  async function keep(cluster: Cluster): Promise<void> {
    while (!isStopping()) {
      const claimed = Promise.withResolvers<undefined>();
      wanted.set(cluster.name, claimed);
      try {
        if (services.watch.takesTenants(cluster.name)) await fill(cluster);
      } catch (error) {
        if (!isStopping()) {
          log.warn({ err: error, cluster: cluster.name }, 'standbys could not be made');
        }
        await pause(lookMs, stopping.signal); // what fails at once would fail again at once
      }
      await Promise.race([claimed.promise, pause(lookMs, stopping.signal)]);
    }
  }

  async function fill(cluster: Cluster): Promise<void> {
    let keeps = false;
    const prolonging = setInterval(() => {
      if (!keeps) return;
      keepStandbys(control, cluster.name, keeper, keeperSeconds).catch(() => undefined); // the next one
    }, keepEveryMs);
    try {
      for (let since = performance.now(); !isStopping();) {
        const looked = claims.get(cluster.name);
        keeps = await keepStandbys(control, cluster.name, keeper, keeperSeconds);
        if (!keeps) return;
        const standbys = await listStandbys(control, cluster.name);
        const chore = nextChore(standbys, counts, recipe, (version) => versions.has(version));
        if (chore === null) return;
        const busy = isUrgent(chore, standbys, counts) ? isAwaited : isBusy;
        const unchanged = (): boolean => claims.get(cluster.name) === looked;
        await untilQuiet(busy, unchanged, since);
        if (isStopping()) return;
        if (!unchanged()) continue; // what was seen is not so any more
        await work(cluster, chore);
        since = performance.now();
      }
    } finally {
      clearInterval(prolonging);
      if (keeps) await releaseStandbys(control, cluster.name, keeper).catch(() => undefined);
    }
  }

  async function work(cluster: Cluster, chore: NonNullable<StandbyChore>): Promise<void> {
    const signal = AbortSignal.any([givenUp.signal, AbortSignal.timeout(buildTimeoutMs)]);
    if (chore.kind === 'build') {
      await buildStandby(services, cluster, chore.isolation, signal);
    } else if (chore.kind === 'refresh') {
      await refreshStandby(services, cluster, chore.standby, signal);
    } else {
      const { standby } = chore;
      const free =
        standby.status !== 'READY' || (await withdrawStandby(control, standby.id, 'DROPPING'));
      if (free) await dropStandby(services, cluster, standby);
    }
  }

  /** Whoever waits for a tenant comes first; but not for ever. */
  async function untilQuiet(
    isBusy: () => boolean,
    unchanged: () => boolean,
    since: number,
  ): Promise<void> {
    let busyAt = -Infinity;
    do {
      if (isBusy()) busyAt = performance.now();
      if (performance.now() - busyAt >= quiet.forMs) return;
      await pause(quiet.pollMs, stopping.signal);
    } while (!isStopping() && unchanged() && performance.now() - since < quiet.atMostMs);
  }

  return {
    claims: createStandbyClaims(services, counts, (cluster) => {
      claims.set(cluster, (claims.get(cluster) ?? 0) + 1);
      wanted.get(cluster)?.resolve(undefined);
    }),

    start() {
      for (const cluster of services.clusters.values()) keeping.push(keep(cluster));
    },

    async stop(graceMs) {
      stopping.abort();
      const grace = setTimeout(() => {
        givenUp.abort(new Error('the instance is stopping'));
      }, graceMs);
      await Promise.all(keeping);
      clearTimeout(grace);
    },
  };
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => undefined);
}
