/**
 * For `knex migrate:…` by hand, on the control plane that DATABASE_URL names. The product itself
 * migrates through src/control/migrate.ts, with the same ledger.
 */
import type { Knex } from 'knex';
import { readConfig } from './src/config.ts';
import { controlSchema } from './src/control/database.ts';
import { connectionOptions } from './src/postgres/connection.ts';
import { loadMigrations, type MigrationFile } from './src/postgres/migrations.ts';

const { url } = readConfig().database;
if (url === null)
  throw new Error('DATABASE_URL: is not set; knex needs a control plane to work on');

const session = { applicationName: 'tenantry knex', statementTimeoutMs: 0 };
const { files } = await loadMigrations(`${import.meta.dirname}/migrations`);

// The ledger has names without their ending, as the product writes them.
const migrationSource: Knex.MigrationSource<MigrationFile> = {
  getMigrations: () => Promise.resolve([...files]),
  getMigrationName: (file) => file.name,
  getMigration: (file) => Promise.resolve(file.migration),
};

const config: Knex.Config = {
  client: 'pg',
  connection: connectionOptions(url, session) as Knex.PgConnectionConfig,
  migrations: { migrationSource, schemaName: controlSchema },
};

export default config;
