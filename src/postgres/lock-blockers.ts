import { codeOf, errorCodes } from './error-codes.ts';
import {
  preparedBlockers,
  rollBackPrepared,
  type PreparedTransaction,
} from './prepared-transactions.ts';
import { asMember, type AdminClient } from './roles.ts';
import { backendPid } from './session.ts';

/** A session that drops a place, and how to look at what it waits for. */
export interface BlockerOptions {
  /** The session that waits for locks, in the database of the place. */
  readonly client: AdminClient;
  readonly database: string;
  /** Runs a look on another session of the admin. */
  readonly observe: (look: (observer: AdminClient) => Promise<void>) => Promise<void>;
  /** Beginning of the comment on roles whose sessions may be ended. */
  readonly markerPrefix: string;
}

/** Runs work, and ends what keeps it waiting. */
export type WithoutBlockers = <T>(work: () => Promise<T>) => Promise<T>;

const lookEveryMs = 200;

/**
 * Returns a function that runs work of the session, and ends sessions of marked roles that keep it waiting:
 * nothing of another tenant's has a reason to hold a lock on what is dropped. While it waits, the lock is
 * its own next: a session that comes back stands behind it. Prepared transactions are rolled back
 * once the work has given up the lock.
 */
export function withoutBlockersOf({
  client,
  database,
  markerPrefix,
  observe,
}: BlockerOptions): WithoutBlockers {
  const pid = backendPid(client);

  return async (work) => {
    let prepared: readonly PreparedTransaction[] = [];
    let isLooking = false;
    let looking: Promise<void> = Promise.resolve();
    const look = (): void => {
      if (isLooking) return;
      isLooking = true;
      looking = observe(async (observer) => {
        await endBlockers(observer, pid, markerPrefix);
        prepared = await preparedBlockers(observer, database, pid);
      })
        // Without a session to look from, the lock's timeout tells.
        .catch(() => undefined)
        .finally(() => {
          isLooking = false;
        });
    };
    const looks = setInterval(look, lookEveryMs);
    try {
      return await work();
    } catch (error) {
      if (codeOf(error) === errorCodes.lockNotAvailable) {
        await looking;
        await rollBackPrepared(client, prepared);
      }
      throw error;
    } finally {
      clearInterval(looks);
    }
  };
}

async function endBlockers(
  observer: AdminClient,
  pid: number,
  markerPrefix: string,
): Promise<void> {
  const { rows } = await observer.query<{ pid: number; role: string }>(
    `SELECT activity.pid, activity.usename::pg_catalog.text AS role
     FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids($1)) AS blocking (pid)
     JOIN pg_catalog.pg_stat_activity activity ON activity.pid = blocking.pid
     WHERE pg_catalog.starts_with(
       pg_catalog.shobj_description(activity.usesysid, 'pg_authid'), $2)`,
    [pid, markerPrefix],
  );
  if (rows.length === 0) return;
  const roles = rows.map(({ role }) => role);
  await asMember(observer, roles, async () => {
    await observer.query(
      'SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.unnest($1::pg_catalog.int4[]) AS pid',
      [rows.map((row) => row.pid)],
    );
  });
}
