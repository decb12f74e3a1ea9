import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { inject } from 'vitest';
import type { AdminClient } from '../../src/postgres/roles.ts';
import { withDatabase } from '../control-template.ts';

/** A superuser's session on the test server, as the functions under test take it; end it yourself. */
export async function openAdmin(database?: string): Promise<pg.Client & AdminClient> {
  const url = inject('serverUrl');
  const client = new pg.Client(database === undefined ? url : withDatabase(url, database));
  client.on('error', () => undefined); // some tests end its session
  await client.connect();
  const { rows } = await client.query<{ version: number }>(
    `SELECT current_setting('server_version_num')::int / 10000 AS version`,
  );
  return Object.assign(client, { isSuperuser: true, serverVersion: rows[0]!.version });
}

/** A name that nothing on the server has yet. */
export function freshName(prefix = 'test'): string {
  return `${prefix}_${randomBytes(8).toString('hex')}`;
}

/** Waits until the session waits for a lock; rejects when it does not within 10 seconds. */
export async function waitsForLock(observer: pg.Client, waiting: pg.Client): Promise<void> {
  const pid = (waiting as unknown as { processID: number }).processID;
  for (let tries = 0; tries < 1000; tries += 1) {
    const { rows } = await observer.query('SELECT 1 FROM pg_locks WHERE pid = $1 AND NOT granted', [
      pid,
    ]);
    if (rows.length > 0) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error('the session does not wait for a lock');
}
