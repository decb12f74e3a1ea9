import type { Knex } from 'knex';

/**
 * When an instance last said that it copies from a template: instances with other tenant migrations keep
 * their hands off it while one does.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.schema.raw(`
    ALTER TABLE control_plane.templates ADD COLUMN used_at timestamptz NOT NULL DEFAULT now();
  `);
}

/** Forward only: see the first migration. */
export function down(): Promise<void> {
  return Promise.reject(new Error('the registry cannot be migrated down'));
}
