import { withClient } from '../postgres/cluster.ts';
import { quoteIdentifier } from '../postgres/identifiers.ts';
import { loadMigrations, migrate } from '../postgres/migrations.ts';
import type pg from 'pg';
import { controlSchema } from './database.ts';

// Any number, the same in every instance: "tenantry" in ASCII fits a bigint.
const migrationLock = '0x74656e616e747279';

/**
 * Brings the control plane to the newest migration. Safe when several instances start at once: they
 * take turns, and the later ones find nothing to do.
 *
 * @param folder of the control plane's migrations
 * @throws MigrationError naming the migration; errors of PostgreSQL
 */
export async function migrateControl(connection: pg.ClientConfig, folder: string): Promise<void> {
  const set = await loadMigrations(folder);
  await withClient({ ...connection, statement_timeout: 0, query_timeout: 0 }, async (client) => {
    await client.query('SELECT pg_advisory_lock($1::bigint)', [BigInt(migrationLock).toString()]);
    await client.query(`CREATE SCHEMA IF NOT EXISTS ${quoteIdentifier(controlSchema)}`);
    await migrate(set, { connection, ledgerSchema: controlSchema });
    await client.query('SELECT pg_advisory_unlock($1::bigint)', [BigInt(migrationLock).toString()]);
  });
}
