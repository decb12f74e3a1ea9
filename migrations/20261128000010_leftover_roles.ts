import type { Knex } from 'knex';

/**
 * Tells findings of kind LEFTOVER_ROLE. A column of its own, beside the kind ORPHAN: instances of the version
 * before read and write the same table, and know no other kinds.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.schema.raw(`
    ALTER TABLE control_plane.drift_findings
      ADD COLUMN leftover_role boolean NOT NULL DEFAULT false
        CHECK (NOT leftover_role OR kind = 'ORPHAN' AND object_type = 'ROLE');
  `);
}

/** Forward only: see the first migration. */
export function down(): Promise<void> {
  return Promise.reject(new Error('the registry cannot be migrated down'));
}
