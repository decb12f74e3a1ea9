/** `npm run migrate`: brings the control plane that DATABASE_URL names to the newest migration. */
import { fileURLToPath } from 'node:url';
import { ConfigError, readConfig } from '../config.ts';
import { migrateControl } from '../control/migrate.ts';
import { connectionOptions } from '../postgres/connection.ts';
import { loadMigrations } from '../postgres/migrations.ts';

const folder = fileURLToPath(new URL('../../migrations', import.meta.url));

async function migrate(): Promise<string> {
  const { url } = readConfig().database;
  if (url === null) {
    const message =
      'is not set; the embedded server needs no command, it is migrated at every start';
    throw new ConfigError([{ setting: 'DATABASE_URL', message }]);
  }
  const session = { applicationName: 'tenantry migrate', statementTimeoutMs: 0 };
  // A migration may take its time: somebody is watching, and can stop it.
  const connection = { ...connectionOptions(url, session), statement_timeout: 0, query_timeout: 0 };
  await migrateControl(connection, folder);
  const { version, files } = await loadMigrations(folder);
  return `The control plane is at migration ${version ?? 'none'} (${files.length} in all).`;
}

/** In one line. Some errors of the network have their text in the errors that they are made of. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') return reasonOf(error.errors[0]);
  const message = error instanceof Error ? error.message : String(error);
  return `The control plane was not migrated: ${message.replaceAll(/\s+/g, ' ')}`;
}

try {
  console.log(await migrate());
} catch (error) {
  console.error(error instanceof ConfigError ? error.message : reasonOf(error));
  process.exitCode = 1;
}
