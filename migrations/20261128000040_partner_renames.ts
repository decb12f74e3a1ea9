import type { Knex } from 'knex';

/**
 * Renaming a partner: an idempotency key's caller, which names the partner, can be changed with the one-time
 * keys that belong to it, and a partner's former names are found in the audit log.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.schema.raw(`
    ALTER TABLE control_plane.batch_api_keys
      DROP CONSTRAINT batch_api_keys_caller_mutation_key_fkey,
      ADD FOREIGN KEY (caller, mutation, key)
        REFERENCES control_plane.idempotency_records (caller, mutation, key)
        ON UPDATE CASCADE ON DELETE CASCADE;
    -- The audit log is append-only: its rows keep the name that the partner had.
    CREATE INDEX audit_log_renames ON control_plane.audit_log ((details ->> 'to'))
      WHERE action = 'renamePartner';
  `);
}

/** Forward only: see the first migration. */
export function down(): Promise<void> {
  return Promise.reject(new Error('the registry cannot be migrated down'));
}
