import pg from 'pg';
import { setTimeout as sleep } from 'node:timers/promises';
import { startingBackends } from '../../src/postgres/terminate-sessions.ts';
import type { World } from '../harness.ts';
import { connectionString } from '../provisioning/tenants.ts';

/** A session that is past authentication and stays before its first query. */
export interface Parked {
  /** 0: it was ended before it was found. */
  readonly pid: number;
  /** Resolves when its connection has ended. */
  readonly ended: Promise<void>;
}

/** Process ids of the backends that are starting in a database. */
export async function startingIn(world: World, database: string): Promise<number[]> {
  const rows = await world.query<{ pid: number }>(
    `SELECT pid FROM (${startingBackends}) AS starting
     WHERE database = (SELECT oid FROM pg_database WHERE datname = $1)`,
    [database],
  );
  return rows.map(({ pid }) => pid);
}

/** Whether a session is there: starting still, or woken up, as a signal to all backends does. */
export async function isThere(observer: pg.Client, pid: number): Promise<boolean> {
  const { rows } = await observer.query(
    'SELECT FROM pg_stat_activity WHERE pid = $1 UNION ALL SELECT FROM pg_locks WHERE pid = $1',
    [pid],
  );
  return rows.length > 0;
}

/** Connects as a tenant that asks the server to wait a minute before it lets it in. */
export async function park(world: World, tenantId: string): Promise<Parked> {
  const url = await connectionString(world, tenantId);
  const database = new URL(url).pathname.slice(1);
  const until = Date.now() + 45_000;
  while (Date.now() < until) {
    const before = await startingIn(world, database);
    const client = new pg.Client({ connectionString: url, options: '-c post_auth_delay=60' });
    client.on('error', () => undefined);
    const ended = new Promise<void>((resolve) => client.once('end', resolve));
    let outcome: 'in' | { readonly code?: string } | undefined;
    const connected = client.connect().then(
      () => (outcome = 'in'),
      (error: unknown) => (outcome = error as object),
    );
    // Others pass this stage as well, when the gateway looks into the database; it is the one that stays.
    const looks = new Map<number, number>();
    while (outcome === undefined) {
      for (const pid of await startingIn(world, database)) {
        if (!before.includes(pid)) looks.set(pid, (looks.get(pid) ?? 0) + 1);
      }
      const [found] = [...looks].find(([, times]) => times === 3) ?? [];
      if (found !== undefined) return { pid: found, ended };
      await Promise.race([connected, sleep(50)]);
    }
    // A signal that reaches all backends, as when any database is dropped, wakes it up.
    if (outcome === 'in') await client.end();
    else if (outcome.code === '57P01') return { pid: 0, ended };
    else throw new Error('it is not let in', { cause: outcome });
  }
  throw new Error('it is woken up each time');
}
