import type { Knex } from 'knex';

/** What has just ended is looked over, again and again: its story may have died with its instance. */
export async function up(knex: Knex): Promise<void> {
  await knex.schema.raw(`
    CREATE INDEX operations_finished ON control_plane.operations (finished_at)
      WHERE finished_at IS NOT NULL;
  `);
}

/** Forward only: see the first migration. */
export function down(): Promise<void> {
  return Promise.reject(new Error('the registry cannot be migrated down'));
}
