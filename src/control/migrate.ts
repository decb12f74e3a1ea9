import type { Knex } from 'knex';
import { withoutTimeouts } from '../postgres/connection.ts';
import { withClient } from '../postgres/session.ts';
import { quoteIdentifier } from '../postgres/identifiers.ts';
import { loadMigrations, migrate, type MigrationSet } from '../postgres/migrations.ts';
import type pg from 'pg';
import { controlSchema } from './database.ts';

// Any number, the same in every instance: "tenantry" in ASCII fits a bigint.
const migrationLock = '0x74656e616e747279';

/**
 * Brings the control plane to the newest migration. Safe when several instances start at once: they
 * take turns, and the later ones find nothing to do.
 *
 * @param folder of the control plane's migrations
 * @returns the newest migration
 * @throws MigrationError naming the migration; Error when a newer version of the product has migrated it;
 *   errors of PostgreSQL
 */
export async function migrateControl(
  connection: pg.ClientConfig,
  folder: string,
): Promise<string | null> {
  const set = await loadMigrations(folder);
  await withClient(withoutTimeouts(connection), async (client) => {
    // A role that may change no table needs none changed, once the owner has migrated.
    if (await isNewest(client, set)) return;
    await client.query('SELECT pg_advisory_lock($1::bigint)', [BigInt(migrationLock).toString()]);
    await client.query(`CREATE SCHEMA IF NOT EXISTS ${quoteIdentifier(controlSchema)}`);
    await migrate(set, { connection, ledgerSchema: controlSchema });
    await client.query('SELECT pg_advisory_unlock($1::bigint)', [BigInt(migrationLock).toString()]);
  });
  return set.version;
}

async function isNewest(client: pg.Client, { files }: MigrationSet): Promise<boolean> {
  const ledger = `${controlSchema}.knex_migrations`;
  const { rows: found } = await client.query<{ found: boolean }>(
    'SELECT to_regclass($1) IS NOT NULL AS found',
    [ledger],
  );
  if (found[0]?.found !== true) return false;
  const { rows } = await client.query<{ name: string }>(`SELECT name FROM ${ledger}`);
  const applied = new Set(rows.map(({ name }) => name));
  const known = new Set(files.map(({ name }) => name));
  const newer = [...applied].find((name) => !known.has(name));
  if (newer !== undefined) {
    throw new Error(
      `a newer version of Tenantry made them: this one does not know migration ${newer}`,
    );
  }
  return applied.size === files.length && files.every(({ name }) => applied.has(name));
}

/**
 * Makes sure that the control plane is at this migration: it may have been restored from a backup.
 *
 * @throws Error when it lacks it
 */
export async function requireMigration(control: Knex, version: string | null): Promise<void> {
  if (version === null) return;
  const row: unknown = await control
    .withSchema(controlSchema)
    .from('knex_migrations')
    .where({ name: version })
    .first('name');
  if (row === undefined) throw new Error(`migration ${version} is missing`);
}
