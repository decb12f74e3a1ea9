import pg from 'pg';
import { expect } from 'vitest';
import { startingBackends } from '../../src/postgres/terminate-sessions.ts';
import type { World } from '../harness.ts';
import { connectionString } from './tenants.ts';

/** A session that is past authentication and stays before its first query. */
export interface Parked {
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

/** Connects as a tenant that asks the server to wait a minute before it lets it in. */
export async function park(world: World, tenantId: string): Promise<Parked> {
  const url = await connectionString(world, tenantId);
  const database = new URL(url).pathname.slice(1);
  const before = await startingIn(world, database);
  const client = new pg.Client({ connectionString: url, options: '-c post_auth_delay=60' });
  client.on('error', () => undefined);
  const ended = new Promise<void>((resolve) => client.once('end', resolve));
  client.connect().catch(() => undefined);
  // Others pass this stage as well: the gateway looks into the database. It is the one that stays.
  const looks = new Map<number, number>();
  await expect
    .poll(
      async () => {
        const starting = await startingIn(world, database);
        for (const pid of starting) looks.set(pid, (looks.get(pid) ?? 0) + 1);
        return starting.find((pid) => !before.includes(pid) && (looks.get(pid) ?? 0) >= 8);
      },
      { timeout: 30_000, interval: 200 },
    )
    .toBeDefined();
  const [pid] = [...looks].find(([one, seen]) => !before.includes(one) && seen >= 8)!;
  return { pid, ended };
}
