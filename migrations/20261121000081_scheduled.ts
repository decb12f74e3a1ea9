import type { Knex } from 'knex';

/** Creations that begin later. */
export async function up(knex: Knex): Promise<void> {
  await knex.schema.raw(`
    -- Before it there is nothing to do for the batch; null: its first tenants may begin at once.
    ALTER TABLE control_plane.batches ADD COLUMN provision_at timestamptz;

    -- Looked up every second, by each instance.
    CREATE INDEX operations_scheduled ON control_plane.operations (tenant_id)
      WHERE status = 'SCHEDULED';
  `);
}

/** Forward only: see the first migration. */
export function down(): Promise<void> {
  return Promise.reject(new Error('the registry cannot be migrated down'));
}
