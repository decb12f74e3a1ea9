import type { Knex } from 'knex';

/**
 * Tenant databases and schemas made ahead of need. A standby has the id, the roles and (by its marker)
 * the operation of the tenant that will take it, so that nothing on the cluster has to be changed for
 * a tenant whose database has an opaque name.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.schema.raw(`
    -- The row comes before what it names: whatever has a row that is not READY may exist half.
    CREATE TABLE control_plane.standbys (
      id uuid PRIMARY KEY,
      operation_id uuid NOT NULL UNIQUE,
      cluster text NOT NULL CHECK (cluster <> ''),
      isolation text NOT NULL CHECK (isolation IN ('DATABASE', 'SCHEMA')),
      database_name text NOT NULL CHECK (octet_length(database_name) BETWEEN 1 AND 63),
      schema_name text CHECK (octet_length(schema_name) BETWEEN 1 AND 63),
      owner_role text NOT NULL CHECK (octet_length(owner_role) BETWEEN 1 AND 63),
      login_role text NOT NULL CHECK (octet_length(login_role) BETWEEN 1 AND 63),
      secrets_encrypted text NOT NULL,
      -- Of all that goes into a standby: one that was made from something else is brought up to date.
      recipe_hash bytea NOT NULL CHECK (octet_length(recipe_hash) = 32),
      migration_version text,
      status text NOT NULL CHECK (status IN ('BUILDING', 'READY', 'REFRESHING', 'DROPPING')),
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now(),
      CHECK ((isolation = 'SCHEMA') = (schema_name IS NOT NULL))
    );
    CREATE INDEX standbys_pool ON control_plane.standbys (cluster, isolation, created_at);

    -- Who makes standbys on a cluster at present, until when: one instance at a time.
    CREATE TABLE control_plane.standby_keepers (
      cluster text PRIMARY KEY,
      keeper uuid NOT NULL,
      until timestamptz NOT NULL
    );
  `);
}

/** Forward only: see the first migration. */
export function down(): Promise<void> {
  return Promise.reject(new Error('the registry cannot be migrated down'));
}
