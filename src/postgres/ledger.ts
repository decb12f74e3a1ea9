import type pg from 'pg';
import { codeOf, errorCodes } from './error-codes.ts';
import { quoteIdentifier } from './identifiers.ts';

/** The longest name of a migration that is read. */
const maxLength = 255;

/**
 * Reads the newest entry in the ledger of migrations that lies in this schema of the connected database.
 * The ledger is the tenant's: never in an admin session, since a view or an index expression in its place
 * runs with the rights of the one who reads.
 *
 * @returns at most 255 characters, whatever stands there; null when it is empty or does not exist
 */
export async function newestMigration(
  client: pg.ClientBase,
  schema: string,
): Promise<string | null> {
  try {
    const { rows } = await client.query<{ name: string }>(
      `SELECT pg_catalog.left(name::pg_catalog.text, ${maxLength}) AS name
       FROM ${quoteIdentifier(schema)}.knex_migrations ORDER BY id DESC LIMIT 1`,
    );
    return rows[0]?.name ?? null;
  } catch (error) {
    const code = codeOf(error);
    if (code === errorCodes.undefinedTable || code === errorCodes.invalidSchemaName) return null;
    throw error;
  }
}
