/** Connections to the default server: is it up, and whose is it? */
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { SettingError } from '../../errors.ts';
import type { Home } from './home.ts';
import { superuser } from './initdb.ts';
import { isPostmaster } from './postmaster.ts';
import type { Postmaster } from './postmaster.ts';
import { codeOf, errorCodes } from '../error-codes.ts';

/** The connection string of the superuser. */
export function serverUrl(port: number, password: string, database: string): string {
  return `postgres://${superuser}:${password}@127.0.0.1:${port}/${database}`;
}

/**
 * How the waiting ended: `gone` when the process ended, `silent` when it lives and does not answer,
 * `recovering` when it answers that it is not ready, and still does after five minutes.
 */
export type Readiness = 'ready' | 'gone' | 'silent' | 'recovering';

const recoveryMs = 300_000;

/**
 * Waits until the server takes connections, and makes the database `tenantry` unless it is there.
 *
 * @param silenceMs how long it may go without any answer
 * @param signal ends the waiting
 * @throws SettingError when the password does not open it; the signal's reason
 */
export async function waitUntilReady(
  server: Postmaster,
  home: Home,
  password: string,
  silenceMs: number,
  signal?: AbortSignal,
): Promise<Readiness> {
  const deadline = Date.now() + recoveryMs;
  let answered = Date.now();
  for (;;) {
    const answer = await knock(server, home, password);
    if (answer === 'ready') return 'ready';
    if (!(await isPostmaster(server.pid, home.directory))) return 'gone';
    if (answer === 'waking') answered = Date.now();
    if (Date.now() > answered + silenceMs) return 'silent';
    if (Date.now() > deadline) return 'recovering';
    signal?.throwIfAborted();
    await sleep(50);
  }
}

/** Codes of a server that is there, and cannot be used right now. */
const wakingCodes: ReadonlySet<string> = new Set([
  '57P03', // cannot_connect_now: starting, recovering from a crash, shutting down
  '57P02', // crash_shutdown: it ended all sessions because one process crashed
  '57P01', // admin_shutdown
  '53300', // too_many_connections
]);

async function knock(
  server: Postmaster,
  home: Home,
  password: string,
): Promise<'ready' | 'waking' | 'silent'> {
  const client = newClient(serverUrl(server.port, password, 'postgres'));
  try {
    await client.connect();
    await makeDatabase(client);
    return 'ready';
  } catch (error) {
    const code = codeOf(error) ?? '';
    if (code === errorCodes.invalidPassword) {
      throw new SettingError(
        'DATA_DIR',
        `the password in ${home.passwordFile} does not open the server in ${home.directory}; put the file back that belongs to it, or set another DATA_DIR`,
      );
    }
    return wakingCodes.has(code) ? 'waking' : 'silent';
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function makeDatabase(client: pg.Client): Promise<void> {
  const { rows } = await client.query('select from pg_database where datname = $1', [superuser]);
  if (rows.length > 0) return;
  try {
    await client.query(`create database ${superuser}`);
  } catch (error) {
    // Another start made it at the same time; which of the two errors comes depends on how close.
    const code = codeOf(error);
    if (code !== errorCodes.duplicateDatabase && code !== errorCodes.uniqueViolation) throw error;
  }
}

/** A connection that breaks is reported by its next use, or by `end`. */
export function newClient(url: string, name = 'tenantry (default server)'): pg.Client {
  const client = new pg.Client({
    connectionString: url,
    ssl: false, // whatever PGSSLMODE says: this server is on the loopback and has no certificate
    application_name: name,
    connectionTimeoutMillis: 2_000,
    query_timeout: 10_000,
  });
  client.on('error', () => {});
  return client;
}
