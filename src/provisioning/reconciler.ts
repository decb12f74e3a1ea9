import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { beginReconcile, endReconcile, keepReconcile } from '../control/drift.ts';
import { forgetEndedStandbys, type Registered } from '../control/registered.ts';
import type { Cluster } from '../postgres/cluster.ts';
import { reconcile } from './reconcile.ts';
import type { StepServices } from './step.ts';

export interface ReconcilerOptions {
  readonly services: StepServices;
  /** Seconds from the end of one comparison of a cluster to the next, over all instances. */
  readonly intervalSeconds: number;
  /** Seconds after the end of an operation before what it left is dropped. */
  readonly graceSeconds: number;
  readonly log: Logger;
}

/** Compares the clusters with the registry, again and again, one instance at a time. */
export interface Reconciler {
  start(): void;
  /** Ends what is under way, at once: another instance goes on. */
  stop(): Promise<void>;
}

// Prolonged while somebody compares: so soon after an instance died, another one goes on. Should it run
// out under a slow one, two compare at once, which harms nobody.
const turnSeconds = 15;
const prolongEveryMs = 5_000;
// How often instances look whether a comparison is due: a fraction of the interval, so that one that
// dies is followed soon.
const lookMs = { least: 200, most: 30_000 } as const;
// Each costs a connection of its own: over some comparisons, every tenant has its turn.
const ledgersAtOnce = 20;
const rememberDays = 30;

/** Builds the reconciler of an instance. */
export function createReconciler(options: ReconcilerOptions): Reconciler {
  const { services, intervalSeconds, graceSeconds, log } = options;
  const { control } = services;
  const keeper = randomUUID();
  const stopping = new AbortController();
  const { signal } = stopping;
  const loops: Promise<void>[] = [];
  const isStopping = (): boolean => signal.aborted;
  const everyMs = Math.min(lookMs.most, Math.max(lookMs.least, intervalSeconds * 200));

  async function keepComparing(cluster: Cluster): Promise<void> {
    const inTurn = takeTurns();
    while (!isStopping()) {
      await sleep(everyMs, undefined, { signal, ref: false }).catch(() => undefined);
      if (isStopping() || !services.watch.takesTenants(cluster.name)) continue;
      await compareWhenDue(cluster, inTurn).catch((error: unknown) => {
        if (isStopping()) return;
        log.warn({ err: error, cluster: cluster.name }, 'the cluster could not be reconciled');
      });
    }
  }

  async function compareWhenDue(
    cluster: Cluster,
    inTurn: ReturnType<typeof takeTurns>,
  ): Promise<void> {
    const turn = { cluster: cluster.name, keeper, seconds: turnSeconds };
    if (!(await beginReconcile(control, turn, intervalSeconds))) return;
    let finished = false;
    const prolonging = setInterval(() => {
      keepReconcile(control, turn).catch(() => undefined); // the next one
    }, prolongEveryMs);
    try {
      const { findings, dropped } = await reconcile(
        cluster,
        {
          services,
          graceSeconds,
          log,
          stillMine: async () => {
            signal.throwIfAborted();
            if (!(await keepReconcile(control, turn))) {
              throw new Error('another instance reconciles this cluster by now');
            }
          },
          onDropError: ({ tenantId }, error) => {
            const message = 'what an undone operation left could not be dropped';
            log.error({ err: error, cluster: cluster.name, tenantId }, message);
          },
          signal: AbortSignal.any([signal, services.watch.whileUp(cluster.name)]),
        },
        inTurn,
      );
      finished = true;
      for (const { tenantId, operationId } of dropped) {
        const message = 'dropped what an undone operation left';
        log.warn({ cluster: cluster.name, tenantId, operationId }, message);
      }
      if (findings.length > 0) {
        const message = 'the cluster differs from the registry: see driftReport';
        log.warn({ cluster: cluster.name, findings: findings.length }, message);
      }
      await forgetEndedStandbys(control, rememberDays);
    } finally {
      clearInterval(prolonging);
      // When it was broken off, somebody else goes on at once.
      await endReconcile(control, turn, isStopping() ? 0 : intervalSeconds, finished);
    }
  }

  return {
    start() {
      for (const cluster of services.clusters.values()) loops.push(keepComparing(cluster));
    },

    async stop() {
      stopping.abort(new Error('the instance is stopping'));
      await Promise.all(loops);
    },
  };
}

/** Chooses some of a list each time, so that everybody has a turn, in the order of their ids. */
function takeTurns(): (list: readonly Registered[]) => readonly Registered[] {
  let last = '';
  return (list) => {
    const sorted = list.toSorted((a, b) => (a.id < b.id ? -1 : 1));
    const next = sorted.findIndex(({ id }) => id > last);
    const start = next === -1 ? 0 : next;
    const chosen = sorted.slice(start, start + ledgersAtOnce);
    last = chosen.at(-1)?.id ?? '';
    return chosen;
  };
}
