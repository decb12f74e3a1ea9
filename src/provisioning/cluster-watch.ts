import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { SettingError } from '../errors.ts';
import type { Cluster } from '../postgres/cluster.ts';
import { isTransient, PassingError } from '../postgres/error-codes.ts';
import { inspectServer, type ServerFault } from '../postgres/server-check.ts';
import type { ClusterPreparation } from './cluster-preparation.ts';

/**
 * `STARTING`: not looked at yet. `UP`: takes tenants. `DOWN`: does not answer, is configured wrongly,
 * or is still being prepared.
 */
export type ClusterState = 'STARTING' | 'UP' | 'DOWN';

export interface ClusterWatchOptions {
  readonly clusters: ReadonlyMap<string, Cluster>;
  /** Makes a cluster that answers ready for tenants. */
  readonly prepare: ClusterPreparation;
  /** The setting to blame for a cluster. */
  readonly setting: string;
  readonly log: Logger;
}

/** Looks after the clusters: which of them take tenants, and that they are ready when they do. */
export interface ClusterWatch {
  /**
   * Looks at every cluster, and prepares those that answer. One that does not is only told of.
   *
   * @throws SettingError when the only cluster is configured wrongly, or the control plane is open
   */
  start(): Promise<void>;
  states(): ReadonlyMap<string, ClusterState>;
  takesTenants(name: string): boolean;
  /** Databases of the cluster that its tenants must not reach. Rejects, with what may pass, while it is not prepared. */
  closedDatabases(cluster: Cluster): Promise<readonly string[]>;
  /** Aborts when the cluster goes down. */
  whileUp(name: string): AbortSignal;
  /** Ends the looking; what is under way is cut. */
  stop(): Promise<void>;
}

// How often a server is asked for a sign of life, and how long it may take over one.
const lookEveryMs = { up: 5_000, down: 500 } as const;
const lookTimeoutMs = 5_000;

interface Watched {
  readonly cluster: Cluster;
  state: ClusterState;
  /** Rises whenever the server is found gone: what was prepared meanwhile is prepared again. */
  losses: number;
  /** Tells one running server from another. */
  identity: string;
  closedDatabases: readonly string[] | null;
  whileUp: AbortController;
}

/** Builds the watch over an installation's clusters. */
export function createClusterWatch(options: ClusterWatchOptions): ClusterWatch {
  const { log, prepare, setting } = options;
  const stopping = new AbortController();
  const watched = new Map(
    Array.from(options.clusters.values(), (cluster) => [cluster.name, enter(cluster)]),
  );
  let loops: Promise<void>[] = [];

  function enter(cluster: Cluster): Watched {
    const entry: Watched = {
      cluster,
      state: 'STARTING',
      losses: 0,
      identity: '',
      closedDatabases: null,
      whileUp: new AbortController(),
    };
    cluster.whenUnreachable(() => {
      lose(entry, 'it takes no connections');
    });
    return entry;
  }

  function lose(entry: Watched, reason: string): void {
    entry.losses += 1;
    if (entry.state === 'DOWN') return;
    entry.state = 'DOWN';
    entry.whileUp.abort(new PassingError('the cluster is down'));
    const cluster = entry.cluster.name;
    log.warn({ cluster, reason }, 'cluster is down: it takes no new tenants until it is back');
  }

  /** One look. Null: all is well. */
  async function look(entry: Watched): Promise<ServerFault | null> {
    const { cluster } = entry;
    const found = await inspect(entry);
    if ('problem' in found) {
      // Without a free slot it is at work: what needs one waits for it.
      if (found.kind === 'BUSY' && entry.state === 'UP') return null;
      if (!stopping.signal.aborted) lose(entry, found.problem);
      return found;
    }
    if (entry.state === 'UP') return null;
    const { losses } = entry;
    entry.closedDatabases = await prepare(cluster, found.identity, entry.closedDatabases ?? []);
    if (losses !== entry.losses) return { problem: 'it went away again', kind: 'UNREACHABLE' };
    entry.identity = found.identity;
    warnOfTwin(entry);
    if (entry.state === 'DOWN') log.info({ cluster: cluster.name }, 'cluster is back');
    entry.state = 'UP';
    entry.whileUp = new AbortController();
    return null;
  }

  async function inspect(entry: Watched): Promise<{ identity: string } | ServerFault> {
    const { cluster } = entry;
    const timed = {
      ...cluster.adminOptions(cluster.adminDatabase),
      application_name: 'tenantry watch',
      connectionTimeoutMillis: lookTimeoutMs,
      statement_timeout: lookTimeoutMs,
      query_timeout: lookTimeoutMs,
    };
    const { signal } = stopping;
    const use = { controlPlane: false, tenants: true };
    const found = await inspectServer(timed, use, signal);
    // One that was only slow is there: it gets a second chance before it counts as lost.
    const again = entry.state === 'UP' && 'problem' in found && !signal.aborted;
    return again ? inspectServer(timed, use, signal) : found;
  }

  function warnOfTwin({ cluster, identity }: Watched): void {
    for (const other of watched.values()) {
      if (other.cluster === cluster || other.identity !== identity) continue;
      const clusters = [other.cluster.name, cluster.name];
      const message = `${setting}: two clusters are one server: it counts its tenants and connections twice`;
      log.warn({ clusters }, message);
    }
  }

  async function keepLooking(entry: Watched): Promise<void> {
    let told: unknown;
    let delayMs: number = lookEveryMs.down;
    for (;;) {
      await sleep(delayMs, undefined, { signal: stopping.signal, ref: false });
      try {
        await look(entry);
        delayMs = entry.state === 'UP' ? lookEveryMs.up : lookEveryMs.down;
      } catch (error) {
        if (stopping.signal.aborted) return;
        lose(entry, 'it cannot be prepared for tenants');
        delayMs = lookEveryMs.up;
        const message = error instanceof Error ? error.message : error;
        if (message !== told) warnUnprepared(entry, error);
        told = message;
      }
    }
  }

  function warnUnprepared({ cluster }: Watched, err: unknown): void {
    log.warn({ err, cluster: cluster.name }, 'cluster cannot be prepared for tenants');
  }

  async function firstLook(entry: Watched): Promise<void> {
    const alone = watched.size === 1;
    try {
      const fault = await look(entry);
      if (fault?.kind !== 'WRONG' || !alone) return;
      throw new SettingError(setting, `cluster ${entry.cluster.name}: ${fault.problem}`);
    } catch (error) {
      if (error instanceof SettingError || (alone && !isTransient(error))) throw error;
      lose(entry, 'it cannot be prepared for tenants');
      warnUnprepared(entry, error);
    }
  }

  return {
    async start() {
      const entries = [...watched.values()];
      const looks = await Promise.allSettled(entries.map(firstLook));
      for (const result of looks) if (result.status === 'rejected') throw result.reason;
      loops = entries.map((entry) => keepLooking(entry).catch(() => undefined));
    },

    states: () =>
      new Map(Array.from(watched.values(), (entry) => [entry.cluster.name, entry.state])),

    takesTenants: (name) => watched.get(name)?.state === 'UP',

    closedDatabases(cluster) {
      const closed = watched.get(cluster.name)?.closedDatabases ?? null;
      if (closed !== null) return Promise.resolve(closed);
      return Promise.reject(new PassingError(`cluster ${cluster.name} is not prepared yet`));
    },

    whileUp(name) {
      const entry = watched.get(name);
      if (entry?.state !== 'UP') return AbortSignal.abort(new PassingError('the cluster is down'));
      return entry.whileUp.signal;
    },

    async stop() {
      stopping.abort(new Error('the instance is stopping'));
      await Promise.all(loops);
    },
  };
}
