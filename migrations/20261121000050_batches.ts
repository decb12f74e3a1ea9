import type { Knex } from 'knex';

/**
 * Batches of creations: until when their items may begin, which items were refused at once, and the
 * keys that a replay of the whole batch shows.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.schema.raw(`
    ALTER TABLE control_plane.batches
      -- Items that have not begun by then are cancelled.
      ADD COLUMN deadline_at timestamptz NOT NULL;
    CREATE INDEX batches_created ON control_plane.batches (created_at, id);
    CREATE INDEX batches_running ON control_plane.batches (id) WHERE status = 'RUNNING';

    -- Undone or cancelled because another item of its atomic batch failed.
    ALTER TABLE control_plane.operations
      ADD COLUMN rolled_back boolean NOT NULL DEFAULT false;

    -- Items for which nothing was recorded: what is wrong with them.
    CREATE TABLE control_plane.batch_refusals (
      batch_id uuid NOT NULL REFERENCES control_plane.batches (id),
      batch_index integer NOT NULL CHECK (batch_index >= 0),
      failures jsonb NOT NULL,
      PRIMARY KEY (batch_id, batch_index)
    );

    ALTER TABLE control_plane.idempotency_records
      ADD COLUMN batch_id uuid REFERENCES control_plane.batches (id),
      DROP CONSTRAINT idempotency_records_subject,
      ADD CONSTRAINT idempotency_records_subject
        CHECK (num_nonnulls(operation_id, tenant_id, batch_id) = 1);
    CREATE INDEX idempotency_records_batch ON control_plane.idempotency_records (batch_id)
      WHERE batch_id IS NOT NULL;

    -- The sealed one-time keys of a batch live exactly as long as the record that shows them again.
    CREATE TABLE control_plane.batch_api_keys (
      caller text NOT NULL,
      mutation text NOT NULL,
      key text NOT NULL,
      tenant_id uuid NOT NULL REFERENCES control_plane.tenants (id),
      api_key_encrypted text NOT NULL,
      PRIMARY KEY (caller, mutation, key, tenant_id),
      FOREIGN KEY (caller, mutation, key)
        REFERENCES control_plane.idempotency_records (caller, mutation, key) ON DELETE CASCADE
    );
  `);
}

/** Forward only: see the first migration. */
export function down(): Promise<void> {
  return Promise.reject(new Error('the registry cannot be migrated down'));
}
