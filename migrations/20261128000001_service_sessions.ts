import type { Knex } from 'knex';

/**
 * Service logins: a tenant's roles that the product itself works with in the tenant's place. A use is
 * recorded for as long as it lasts, so that there is one at a time over all instances, and so that every
 * other session of such a login is known to be nobody's.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.schema.raw(`
    CREATE TABLE control_plane.service_sessions (
      cluster text NOT NULL,
      role text NOT NULL,
      holder uuid NOT NULL,
      -- Backend of the use; null: it has not connected yet.
      pid integer,
      expires_at timestamptz NOT NULL,
      PRIMARY KEY (cluster, role)
    );

    -- 0: roles as versions before service logins made them; recovery brings them up to date.
    ALTER TABLE control_plane.tenant_databases ADD COLUMN role_layout smallint NOT NULL DEFAULT 0;
    CREATE INDEX tenant_databases_role_layout ON control_plane.tenant_databases (cluster, role_layout)
      WHERE role_layout = 0 AND status <> 'DROPPED';

    -- The role whose members may connect to a shared tenant database; null: each tenant has a right of its own.
    ALTER TABLE control_plane.shared_databases ADD COLUMN group_role text;
  `);
}

/** Forward only: see the first migration. */
export function down(): Promise<void> {
  return Promise.reject(new Error('the registry cannot be migrated down'));
}
