import type { Knex } from 'knex';

/** The databases that hold tenants of SCHEMA isolation. */
export async function up(knex: Knex): Promise<void> {
  await knex.schema.raw(`
    -- The row comes before the database, whose marker holds the id: so a database of this name that
    -- another control plane made, or somebody else, is told apart.
    CREATE TABLE control_plane.shared_databases (
      id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
      cluster text NOT NULL CHECK (cluster <> ''),
      database_name text NOT NULL CHECK (octet_length(database_name) BETWEEN 1 AND 63),
      created_at timestamptz NOT NULL DEFAULT now(),
      UNIQUE (cluster, database_name)
    );
  `);
}

/** Forward only: see the first migration. */
export function down(): Promise<void> {
  return Promise.reject(new Error('the registry cannot be migrated down'));
}
