import type { Knex } from 'knex';

/** When each tenant's database was last looked at; what was found stands in its status. */
export async function up(knex: Knex): Promise<void> {
  await knex.schema.raw(`
    ALTER TABLE control_plane.tenant_databases ADD COLUMN checked_at timestamptz;
  `);
}

/** Forward only: see the first migration. */
export function down(): Promise<void> {
  return Promise.reject(new Error('the registry cannot be migrated down'));
}
