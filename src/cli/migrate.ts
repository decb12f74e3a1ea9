/**
 * `npm run migrate`: brings the control plane that DATABASE_URL names to the newest migration, the job
 * queue's tables too. `npm run migrate -- --grant-to <role>` then gives a role all that a gateway needs,
 * and not the right to change the audit log or any table.
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ConfigError, readConfig } from '../config.ts';
import { openControl } from '../control/database.ts';
import { migrateControl } from '../control/migrate.ts';
import { grantRuntime } from '../control/runtime-role.ts';
import { makeQueueTables, queueSchema } from '../jobs/operation-queue.ts';
import { connectionOptions } from '../postgres/connection.ts';
import { loadMigrations } from '../postgres/migrations.ts';

const folder = fileURLToPath(new URL('../../migrations', import.meta.url));

async function migrate(role: string | undefined): Promise<string> {
  const { url } = readConfig().database;
  if (url === null) {
    const message =
      'is not set; the embedded server needs no command, it is migrated at every start';
    throw new ConfigError([{ setting: 'DATABASE_URL', message }]);
  }
  const session = { applicationName: 'tenantry migrate', statementTimeoutMs: 0 };
  // A migration may take its time: somebody is watching, and can stop it.
  const connection = connectionOptions(url, session);
  await migrateControl(connection, folder);
  const { version, files } = await loadMigrations(folder);
  const control = openControl({ connection, poolMax: 2, poolTimeoutMs: 10_000 });
  try {
    await makeQueueTables(control);
    const done = `The control plane is at migration ${version ?? 'none'} (${files.length} in all).`;
    if (role === undefined) return done;
    const problems = await grantRuntime(control, role, [queueSchema]);
    for (const { message, fatal } of problems) {
      if (fatal) throw new ConfigError([{ setting: '--grant-to', message }]);
      console.error(`--grant-to: ${message}`);
    }
    return `${done}\nGateways may run as ${role}, which can append to the audit log and not change it.`;
  } finally {
    await control.destroy();
  }
}

/** In one line. Some errors of the network have their text in the errors that they are made of. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') return reasonOf(error.errors[0]);
  const message = error instanceof Error ? error.message : String(error);
  return `The control plane was not migrated: ${message.replaceAll(/\s+/g, ' ')}`;
}

try {
  const { values } = parseArgs({ options: { 'grant-to': { type: 'string' } } });
  console.log(await migrate(values['grant-to']));
} catch (error) {
  console.error(error instanceof ConfigError ? error.message : reasonOf(error));
  process.exitCode = 1;
}
