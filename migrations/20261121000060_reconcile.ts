import type { Knex } from 'knex';

/** What is compared with the clusters, and what was found. */
export async function up(knex: Knex): Promise<void> {
  await knex.schema.raw(`
    -- Part of the marker on everything that is made: tells two control planes on one server apart. One
    -- that is restored from its backup keeps it.
    CREATE TABLE control_plane.installation (
      singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
      id uuid NOT NULL DEFAULT gen_random_uuid()
    );
    INSERT INTO control_plane.installation DEFAULT VALUES;

    -- Standbys that were given up, no tenant's: whoever was cut off while making one may still leave
    -- something of it behind.
    CREATE TABLE control_plane.ended_standbys (
      id uuid PRIMARY KEY,
      operation_id uuid NOT NULL,
      cluster text NOT NULL,
      isolation text NOT NULL,
      database_name text NOT NULL,
      schema_name text,
      owner_role text NOT NULL,
      login_role text NOT NULL,
      ended_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX ended_standbys_cluster ON control_plane.ended_standbys (cluster, ended_at);

    -- Who compares a cluster with the registry at present, until when, and when it is due again.
    CREATE TABLE control_plane.reconcile_runs (
      cluster text PRIMARY KEY,
      keeper uuid,
      until timestamptz NOT NULL,
      due_at timestamptz NOT NULL,
      finished_at timestamptz
    );

    CREATE TABLE control_plane.drift_findings (
      cluster text NOT NULL,
      kind text NOT NULL CHECK (kind IN ('ORPHAN', 'MISSING', 'UNMARKED', 'WRONG_OWNER',
        'WRONG_GRANTS', 'WRONG_VERSION', 'HALF_DROPPED')),
      object_type text NOT NULL CHECK (object_type IN ('DATABASE', 'SCHEMA', 'ROLE')),
      object_name text NOT NULL,
      tenant_id uuid,
      detail text NOT NULL,
      first_seen_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (cluster, kind, object_type, object_name)
    );
  `);
}

/** Forward only: see the first migration. */
export function down(): Promise<void> {
  return Promise.reject(new Error('the registry cannot be migrated down'));
}
