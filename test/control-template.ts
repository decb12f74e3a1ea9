import { randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { openControl } from '../src/control/database.ts';
import { migrateControl } from '../src/control/migrate.ts';
import { createOperationQueue } from '../src/jobs/operation-queue.ts';
import { connectionOptions } from '../src/postgres/connection.ts';

/** A database with a migrated, empty control plane. */
export interface ControlTemplate {
  readonly name: string;
  drop(): Promise<void>;
}

const migrations = fileURLToPath(new URL('../migrations', import.meta.url));

/** Migrates one control plane, queue tables included, so that each test file only has to copy it. */
export async function makeControlTemplate(serverUrl: string): Promise<ControlTemplate> {
  const name = `test_template_${randomBytes(6).toString('hex')}`;
  await onServer(serverUrl, (client) => client.query(`CREATE DATABASE ${name}`));
  const connection = connectionOptions(withDatabase(serverUrl, name), {
    applicationName: 'test',
    statementTimeoutMs: 60_000,
  });
  await migrateControl(connection, migrations);
  const control = openControl({ connection, poolMax: 4, poolTimeoutMs: 30_000 });
  const queue = createOperationQueue({ control, leaseSeconds: 20, onError: () => undefined });
  await queue.start(() => Promise.resolve());
  await queue.stop(1000);
  await control.destroy();
  return {
    name,
    async drop() {
      await onServer(serverUrl, (client) =>
        client.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`),
      );
    },
  };
}

/** The same server, another database. */
export function withDatabase(url: string, database: string): string {
  const changed = new URL(url);
  changed.pathname = `/${database}`;
  return changed.href;
}

/** The same database, another login. */
export function withLogin(url: string, user: string, password: string): string {
  const changed = new URL(url);
  changed.username = user;
  changed.password = password;
  return changed.href;
}

/** One short connection to the server. */
export async function onServer<T>(
  url: string,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
