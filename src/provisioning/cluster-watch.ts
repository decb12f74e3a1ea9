import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { Logger } from 'pino';
import { SettingError } from '../errors.ts';
import type { Cluster } from '../postgres/cluster.ts';
import { isTransient, PassingError } from '../postgres/error-codes.ts';
import { freeConnections } from '../postgres/free-connections.ts';
import { createKeptSession, type KeptSession } from '../postgres/kept-session.ts';
import { faultOf, inspectSession, type ServerFault } from '../postgres/server-check.ts';
import type { ClusterPreparation } from './cluster-preparation.ts';

/**
 * `STARTING`: not looked at yet. `UP`: takes tenants. `BUSY`: the same, and there is no connection free
 * on the server at present, or the admin waits for one. `DOWN`: does not answer, is configured wrongly, or
 * is still being prepared.
 */
export type ClusterState = 'STARTING' | 'UP' | 'BUSY' | 'DOWN';

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
  state: Exclude<ClusterState, 'BUSY'>;
  /** The session by which it is looked at. */
  readonly session: KeptSession;
  /** Whether there was no connection free when it was last looked at, or since then. */
  busy: boolean;
  /** Whether the admin had to wait for a connection since the last look. */
  waited: boolean;
  /** Rises whenever the server is found gone: what was prepared meanwhile is prepared again. */
  losses: number;
  /** Tells one running server from another. */
  identity: string;
  closedDatabases: readonly string[] | null;
  whileUp: AbortController;
}

/** What a look at a server that answers finds. */
interface Inspected {
  readonly identity: string;
  /** Connections that are free for roles without reserved ones. */
  readonly free: number;
}

function lookOptions(cluster: Cluster): pg.ClientConfig {
  return {
    ...cluster.adminOptions(cluster.adminDatabase),
    application_name: 'tenantry watch',
    connectionTimeoutMillis: lookTimeoutMs,
    statement_timeout: lookTimeoutMs,
    query_timeout: lookTimeoutMs,
  };
}

async function inspectOnce(
  { cluster, session }: Watched,
  signal: AbortSignal,
): Promise<Inspected | ServerFault> {
  const options = lookOptions(cluster);
  try {
    return await session.use(async (client) => {
      const found = await inspectSession(client, options, { controlPlane: false, tenants: true });
      return 'problem' in found ? found : { ...found, free: await freeConnections(client) };
    }, signal);
  } catch (error) {
    return faultOf(error, options);
  }
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
      session: createKeptSession(() => lookOptions(cluster)),
      busy: false,
      waited: false,
      losses: 0,
      identity: '',
      closedDatabases: null,
      whileUp: new AbortController(),
    };
    cluster.whenUnreachable(() => {
      lose(entry, 'it takes no connections');
    });
    cluster.whenBusy(() => {
      entry.busy = entry.waited = true;
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
      if (found.kind === 'BUSY' && entry.state === 'UP') {
        entry.busy = true;
        return null;
      }
      if (!stopping.signal.aborted) lose(entry, found.problem);
      return found;
    }
    if (entry.state === 'UP') {
      entry.busy = entry.waited || found.free <= 0;
      entry.waited = false;
      await cluster.keepOpen().catch(() => undefined); // whether it is up, the session decides
      return null;
    }
    const { losses } = entry;
    await cluster.keepOpen();
    entry.closedDatabases = await prepare(cluster, found.identity, entry.closedDatabases ?? []);
    if (losses !== entry.losses) return { problem: 'it went away again', kind: 'UNREACHABLE' };
    entry.identity = found.identity;
    warnOfTwin(entry);
    if (entry.state === 'DOWN') log.info({ cluster: cluster.name }, 'cluster is back');
    entry.state = 'UP';
    entry.whileUp = new AbortController();
    return null;
  }

  /**
   * By the session that is kept open, so that a server without a free connection is found up. One that is
   * not known to be up has to take a new connection.
   */
  async function inspect(entry: Watched): Promise<Inspected | ServerFault> {
    const { signal } = stopping;
    if (entry.state !== 'UP') await entry.session.end();
    const found = await inspectOnce(entry, signal);
    // One that was only slow is there: it gets a second chance before it counts as lost.
    const again = entry.state === 'UP' && 'problem' in found && !signal.aborted;
    return again ? inspectOnce(entry, signal) : found;
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
      new Map(
        Array.from(watched.values(), ({ busy, cluster, state }) => [
          cluster.name,
          state === 'UP' && busy ? 'BUSY' : state,
        ]),
      ),

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
      await Promise.all(Array.from(watched.values(), ({ session }) => session.end()));
    },
  };
}
