import pLimit from 'p-limit';
import pg from 'pg';
import type { AdminClient } from './roles.ts';
import { createWarmSessions, occupied } from './warm-sessions.ts';
import { connectAhead, type AheadOptions, type ConnectionAhead } from './connection-ahead.ts';
import {
  connectionOptions,
  cutConnection,
  loginUrl,
  tenantUrl,
  type Login,
  type PublicAddress,
  type SessionOptions,
} from './connection.ts';
import { codeOf, errorCodes, isUnreachable } from './error-codes.ts';
import { pinByVersion } from './pinned-settings.ts';
import { endSession, ignoreIdleError, runSession, type SessionRun } from './session.ts';

export interface ClusterOptions {
  /** The name callers use; never a host. */
  readonly name: string;
  /** Admin connection string. */
  readonly url: string;
  /** How tenants reach it; absent: as the admin does. */
  readonly publicAddress?: PublicAddress;
  /** Connections to this cluster at once, over all kinds of work. At least 3. */
  readonly connectionsMax: number;
  /** Wait for a free admin connection, milliseconds. */
  readonly waitTimeoutMs: number;
  /** The longest one admin statement may take, milliseconds. */
  readonly statementTimeoutMs: number;
}

/** A PostgreSQL server that holds tenant data, seen through its admin. */
export interface Cluster {
  readonly name: string;
  /** The database the admin works from; `postgres`, `template1` and it are closed to tenants. */
  readonly adminDatabase: string;

  /** Runs `work` on a warm admin connection. When `signal` aborts, the connection is cut. */
  admin<T>(work: (client: AdminClient) => Promise<T>, signal?: AbortSignal): Promise<T>;

  /**
   * Like `admin`, holding an advisory lock on `key` in the same session as the work: a client that
   * was killed does not stop its CREATE DATABASE, but the lock stays held until that has ended.
   *
   * @param idleMs the longest that the work may leave the session alone: then the server ends it, so
   *   that an instance that stalls keeps nobody from taking over
   */
  exclusively<T>(
    key: string,
    work: (client: AdminClient) => Promise<T>,
    signal?: AbortSignal,
    idleMs?: number,
  ): Promise<T>;

  /** Runs `work` on a short-lived admin connection to another database of the cluster. */
  inDatabase<T>(
    database: string,
    work: (client: AdminClient) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T>;

  /**
   * The same in a database that is worked in again and again: a session stays open between its uses,
   * where nobody waits for its connection.
   */
  inSharedDatabase<T>(
    database: string,
    work: (client: AdminClient) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T>;

  /**
   * Runs `work` on a short-lived connection with these options (a tenant's), within the budget.
   *
   * @param maxBytes of all answers; a larger one cuts the connection
   * @throws AnswerTooLargeError
   */
  withLogin<T>(
    options: pg.ClientConfig,
    work: (client: pg.Client) => Promise<T>,
    signal?: AbortSignal,
    maxBytes?: number,
  ): Promise<T>;

  /**
   * Holds one of the cluster's short-lived connections for work that connects by itself, and that
   * waits for the end of its connection.
   */
  withConnectionSlot<T>(work: () => Promise<T>): Promise<T>;

  /**
   * Begins to open a connection that is needed soon, where two of the short-lived ones are free: one
   * for it, and one for whoever opens it to work with meanwhile, who would else wait for himself.
   * Null where they are not.
   */
  connectAhead(
    config: pg.ClientConfig,
    options?: Omit<AheadOptions, 'onEnd'>,
  ): ConnectionAhead | null;

  /**
   * Opens a connection once one of the short-lived ones is free for it. Whoever holds it must not wait
   * for another one meanwhile.
   */
  connectInTurn(config: pg.ClientConfig, prepare: AheadOptions['prepare']): ConnectionAhead;

  /** Connection options of a login of this server for one of its databases, reached as the admin reaches it. */
  loginOptions(database: string, login: Login, session: SessionOptions): pg.ClientConfig;

  /** Connection options of the admin for another database. */
  adminOptions(database: string): pg.ClientConfig;

  /** The connection string of a login, as it is stored. */
  urlFor(database: string, login: Login): string;

  /** Has `listener` called whenever the admin finds no server that takes connections. */
  whenUnreachable(listener: (error: unknown) => void): void;

  /** Has `listener` called whenever the admin has to wait for a connection. */
  whenBusy(listener: () => void): void;

  /** Opens those of the admin's sessions that are kept open and are not there. */
  keepOpen(): Promise<void>;

  /** Ends all idle connections; those in use end when their work does. */
  close(): Promise<void>;
}

// An instance that leaves a session alone for so long in the middle of something has stalled.
const stalledAfterMs = 10_000;
// No statement of the admin's waits longer for what a tenant may have locked; what may pass is tried again.
const lockTimeoutMs = 5_000;

/** What a server says of itself and of the admin's role. */
interface ServerFacts {
  readonly isSuperuser: boolean;
  /** Major version. */
  readonly version: number;
}
// Beside the one by which the cluster is watched: tenants may take all others of the server.
const keptOpen = 2;
const longWaitMs = 3_000;

/** Opens a cluster. Connects on first use; a cluster that is down fails the work, not this call. */
export function openCluster(options: ClusterOptions): Cluster {
  let server: ServerFacts | undefined;
  /** Options of an admin session; `version` of the server where it is known. */
  const sessionOptions = (version?: number): pg.ClientConfig => ({
    ...connectionOptions(options.url, {
      applicationName: 'tenantry',
      statementTimeoutMs: options.statementTimeoutMs,
      lockTimeoutMs,
      ...(version === undefined ? {} : { version }),
    }),
    // A transaction that is left alone keeps its locks from everybody else.
    idle_in_transaction_session_timeout: stalledAfterMs,
  });
  const session = sessionOptions();
  // One connection stays in reserve, for whoever looks whether the server is there; half of the rest
  // is kept warm for DDL, half is for logins.
  const usable = Math.max(2, options.connectionsMax - 1);
  const pool = new pg.Pool({
    ...session,
    max: Math.ceil(usable / 2),
    idleTimeoutMillis: 0,
    connectionTimeoutMillis: options.waitTimeoutMs,
  });
  pool.on('error', ignoreIdleError);
  // One that is taken for a moment, to be kept open, has no other listener meanwhile.
  pool.on('connect', (client) => {
    client.on('error', ignoreIdleError);
    pinByVersion(client);
  });
  const slots = pLimit(Math.max(1, Math.floor(usable / 2)));
  const warm = createWarmSessions({ slots, connect: connectAdmin });
  const listeners: ((error: unknown) => void)[] = [];
  const busyListeners: (() => void)[] = [];
  let closed = false;
  pool.on('remove', () => {
    keepOpen().catch(() => undefined); // the next look at the cluster tries it again
  });

  /** For what connects as the admin alone: other failures say nothing of the server. */
  function tellUnreachable(error: unknown): void {
    if (isUnreachable(error)) {
      server = undefined; // what answers next may be another one
      for (const listener of listeners) listener(error);
    }
    if (codeOf(error) === errorCodes.tooManyConnections) tellBusy();
  }

  function tellBusy(): void {
    for (const listener of busyListeners) listener();
  }

  async function connectPooled(): Promise<pg.PoolClient> {
    const late = setTimeout(tellBusy, longWaitMs);
    try {
      return await pool.connect();
    } catch (error) {
      tellUnreachable(error);
      throw error;
    } finally {
      clearTimeout(late);
    }
  }

  async function keepOpen(): Promise<void> {
    const wanted = Math.min(keptOpen, pool.options.max);
    if (closed || pool.totalCount >= wanted) return;
    const opened = await Promise.allSettled(Array.from({ length: wanted }, connectPooled));
    for (const one of opened) if (one.status === 'fulfilled') one.value.release();
    for (const one of opened) if (one.status === 'rejected') throw one.reason;
  }

  async function connectAdmin(database: string): Promise<pg.Client> {
    const client = new pg.Client({ ...session, database });
    client.on('error', ignoreIdleError);
    await client.connect().catch((error: unknown) => {
      tellUnreachable(error);
      throw error;
    });
    pinByVersion(client);
    return client;
  }

  /** Its slot is free once the server has let go of the connection: no moment is over the budget. */
  function shortLived<T>(
    config: pg.ClientConfig,
    work: (client: pg.Client) => Promise<T>,
    run: SessionRun,
  ): Promise<T> {
    const outcome = Promise.withResolvers<T>();
    warm.makeRoom();
    void slots(async () => {
      const { result, ended } = runSession(config, work, run);
      result.then(outcome.resolve, outcome.reject);
      await ended;
    });
    return outcome.promise;
  }

  async function asAdmin(client: pg.ClientBase): Promise<AdminClient> {
    server ??= await askServer(client);
    return Object.assign(client, {
      isSuperuser: server.isSuperuser,
      serverVersion: server.version,
    });
  }

  async function admin<T>(
    work: (client: AdminClient) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    signal?.throwIfAborted();
    const client = await connectPooled();
    if (signal?.aborted === true) {
      // Aborted while it waited: whoever asked has gone on, and may be undoing this very work.
      client.release();
      throw signal.reason as Error;
    }
    const cut = (): void => {
      cutConnection(client);
    };
    signal?.addEventListener('abort', cut, { once: true });
    let broken = true;
    try {
      const result = await work(await asAdmin(client));
      broken = false;
      return result;
    } finally {
      signal?.removeEventListener('abort', cut);
      // After an error the session may hold a lock or an open transaction: it is not reused. Its place
      // in the budget is free once the server has let go of it.
      if (broken) await endSession(client);
      client.release(broken);
    }
  }

  return {
    name: options.name,
    adminDatabase: session.database ?? 'postgres',
    admin,

    exclusively(key, work, signal, idleMs = stalledAfterMs) {
      return admin(async (client) => {
        // This lock is waited for as long as it takes: the work of its holder may be a long one.
        await client.query(
          `SELECT pg_catalog.set_config('idle_session_timeout', $2, false),
                  pg_catalog.set_config('lock_timeout', '0', false),
                  pg_catalog.pg_advisory_lock(pg_catalog.hashtextextended($1, 0)),
                  pg_catalog.set_config('lock_timeout', $3, false)`,
          [key, String(idleMs), String(lockTimeoutMs)],
        );
        const result = await work(client);
        await client.query(
          `SELECT pg_catalog.pg_advisory_unlock(pg_catalog.hashtextextended($1, 0)),
                  pg_catalog.set_config('idle_session_timeout', '0', false)`,
          [key],
        );
        return result;
      }, signal);
    },

    inDatabase(database, work, signal) {
      const version = server?.version;
      return shortLived(
        { ...sessionOptions(version), database },
        async (client) => {
          if (version === undefined) pinByVersion(client);
          return work(await asAdmin(client));
        },
        { signal, onConnectError: tellUnreachable },
      );
    },

    inSharedDatabase(database, work, signal) {
      warm.makeRoom();
      return warm.use(database, async (client) => {
        const cut = (): void => {
          cutConnection(client);
        };
        signal?.throwIfAborted();
        signal?.addEventListener('abort', cut, { once: true });
        try {
          return await work(await asAdmin(client));
        } finally {
          signal?.removeEventListener('abort', cut);
        }
      });
    },

    withLogin(login, work, signal, maxBytes) {
      return shortLived(login, work, { signal, maxBytes });
    },

    withConnectionSlot(work) {
      warm.makeRoom();
      return slots(work);
    },

    connectAhead(config, ahead = {}) {
      if (slots.activeCount + slots.pendingCount + 2 > slots.concurrency) return null;
      return connectAhead(config, { ...ahead, onEnd: freed(occupied(slots)) });
    },

    connectInTurn(config, prepare) {
      warm.makeRoom();
      const turn = occupied(slots);
      return connectAhead(config, { before: turn, prepare, onEnd: freed(turn) });
    },

    loginOptions(database, login, session) {
      return connectionOptions(loginUrl(options.url, database, login), {
        ...session,
        ...(server === undefined ? {} : { version: server.version }),
      });
    },

    adminOptions(database) {
      return { ...sessionOptions(server?.version), database };
    },

    urlFor(database, login) {
      return tenantUrl(options.url, database, login, options.publicAddress);
    },

    whenUnreachable(listener) {
      listeners.push(listener);
    },

    whenBusy(listener) {
      busyListeners.push(listener);
    },

    keepOpen,

    async close() {
      closed = true;
      warm.endIdle();
      await pool.end();
    },
  };
}

/** Gives a slot back, also one whose turn has not come yet. */
function freed(slot: Promise<() => void>): () => void {
  return () => {
    void slot.then((free) => {
      free();
    });
  };
}

async function askServer(client: pg.ClientBase): Promise<ServerFacts> {
  const { rows } = await client.query<ServerFacts>(
    `SELECT rolsuper AS "isSuperuser",
            pg_catalog.current_setting('server_version_num')::pg_catalog.int4 / 10000 AS version
     FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER`,
  );
  if (rows[0] === undefined) throw new Error('the server answered without a row');
  return rows[0];
}
