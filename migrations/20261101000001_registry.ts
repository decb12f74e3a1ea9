import type { Knex } from 'knex';

/**
 * Tenants, their databases, and the operations that make and change them. What the code relies on is
 * enforced here: a race of two requests is decided by a unique index, never by a look beforehand.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.schema.raw(`
    CREATE TABLE control_plane.tenants (
      id uuid PRIMARY KEY,
      number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
      partner text NOT NULL CHECK (partner <> ''),
      name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 255),
      slug text NOT NULL CHECK (slug ~ '^[a-z][a-z0-9]*([-_][a-z0-9]+)*$' AND char_length(slug) <= 48),
      environment text NOT NULL CHECK (environment IN ('DEVELOPMENT', 'STAGING', 'PRODUCTION')),
      status text NOT NULL CHECK (status IN
        ('SCHEDULED', 'PROVISIONING', 'ACTIVE', 'SUSPENDED', 'DELETED', 'PURGED', 'FAILED')),
      status_before_delete text CHECK (status_before_delete IN ('ACTIVE', 'SUSPENDED')),
      domain text CHECK (char_length(domain) <= 255),
      description text,
      email text,
      phone_number text,
      industry text,
      settings jsonb NOT NULL,
      isolation text NOT NULL CHECK (isolation IN ('DATABASE', 'SCHEMA')),
      deletion_protection boolean NOT NULL DEFAULT false,
      version integer NOT NULL DEFAULT 1 CHECK (version > 0),
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now(),
      provision_at timestamptz,
      activated_at timestamptz,
      deleted_at timestamptz,
      purge_at timestamptz,
      last_activity_at timestamptz,
      CHECK ((status = 'DELETED') = (deleted_at IS NOT NULL AND purge_at IS NOT NULL) OR status = 'PURGED'),
      CHECK (status <> 'DELETED' OR status_before_delete IS NOT NULL),
      CHECK (status NOT IN ('ACTIVE', 'SUSPENDED', 'DELETED') OR activated_at IS NOT NULL)
    );
    -- A name is taken until its tenant is purged, or its creation was undone and the undo verified.
    CREATE UNIQUE INDEX tenants_slug_taken ON control_plane.tenants (slug)
      WHERE status NOT IN ('PURGED', 'FAILED');
    CREATE UNIQUE INDEX tenants_domain_taken ON control_plane.tenants (lower(domain))
      WHERE status NOT IN ('PURGED', 'FAILED');
    CREATE INDEX tenants_partner_name ON control_plane.tenants (partner, name);
    CREATE INDEX tenants_created ON control_plane.tenants (created_at, id);
    CREATE INDEX tenants_updated ON control_plane.tenants (updated_at, id);
    CREATE INDEX tenants_name ON control_plane.tenants (name, id);

    CREATE TABLE control_plane.tenant_databases (
      tenant_id uuid PRIMARY KEY REFERENCES control_plane.tenants (id),
      cluster text NOT NULL CHECK (cluster <> ''),
      isolation text NOT NULL CHECK (isolation IN ('DATABASE', 'SCHEMA')),
      -- PostgreSQL cuts identifiers at 63 bytes; what would be cut never gets this far.
      database_name text NOT NULL CHECK (octet_length(database_name) BETWEEN 1 AND 63),
      schema_name text CHECK (octet_length(schema_name) BETWEEN 1 AND 63),
      owner_role text NOT NULL CHECK (octet_length(owner_role) BETWEEN 1 AND 63),
      login_role text NOT NULL CHECK (octet_length(login_role) BETWEEN 1 AND 63),
      status text NOT NULL DEFAULT 'PENDING' CHECK (status IN
        ('PENDING', 'PROVISIONED', 'OUTDATED', 'UNREACHABLE', 'DROPPED')),
      migration_version text,
      connection_string_encrypted text,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now(),
      CHECK ((isolation = 'SCHEMA') = (schema_name IS NOT NULL)),
      CHECK (status NOT IN ('PROVISIONED', 'OUTDATED', 'UNREACHABLE')
        OR connection_string_encrypted IS NOT NULL),
      CHECK (status <> 'DROPPED' OR connection_string_encrypted IS NULL)
    );
    CREATE UNIQUE INDEX tenant_databases_name_taken
      ON control_plane.tenant_databases (cluster, database_name)
      WHERE isolation = 'DATABASE' AND status <> 'DROPPED';
    CREATE UNIQUE INDEX tenant_databases_schema_taken ON control_plane.tenant_databases (schema_name)
      WHERE isolation = 'SCHEMA' AND status <> 'DROPPED';
    CREATE UNIQUE INDEX tenant_databases_roles_taken
      ON control_plane.tenant_databases (cluster, login_role) WHERE status <> 'DROPPED';

    CREATE TABLE control_plane.batches (
      id uuid PRIMARY KEY,
      partner text NOT NULL CHECK (partner <> ''),
      status text NOT NULL CHECK (status IN
        ('RUNNING', 'SUCCEEDED', 'PARTIALLY_FAILED', 'FAILED', 'ROLLED_BACK', 'CANCELLED')),
      atomic boolean NOT NULL,
      total integer NOT NULL CHECK (total > 0),
      created_at timestamptz NOT NULL DEFAULT now(),
      finished_at timestamptz,
      CHECK ((status = 'RUNNING') = (finished_at IS NULL))
    );

    CREATE TABLE control_plane.operations (
      id uuid PRIMARY KEY,
      kind text NOT NULL CHECK (kind IN ('CREATE', 'DELETE', 'RESTORE', 'PURGE', 'SUSPEND', 'RESUME',
        'ROTATE_CREDENTIALS', 'MIGRATE')),
      status text NOT NULL CHECK (status IN ('SCHEDULED', 'QUEUED', 'RUNNING', 'COMPENSATING',
        'SUCCEEDED', 'COMPENSATED', 'FAILED', 'CANCELLED')),
      tenant_id uuid NOT NULL REFERENCES control_plane.tenants (id),
      batch_id uuid REFERENCES control_plane.batches (id),
      batch_index integer,
      partner text NOT NULL CHECK (partner <> ''),
      actor text NOT NULL,
      request_id text,
      -- Raised by whoever takes the operation over; every later write of it names the fence it holds.
      fence bigint NOT NULL DEFAULT 1 CHECK (fence > 0),
      -- What a resuming instance needs and nobody may read: sealed, and gone when the operation ends.
      secrets_encrypted text,
      error_code text,
      error_message text,
      deadline_at timestamptz NOT NULL,
      created_at timestamptz NOT NULL DEFAULT now(),
      started_at timestamptz,
      finished_at timestamptz,
      CHECK ((batch_id IS NULL) = (batch_index IS NULL)),
      CHECK ((status IN ('SUCCEEDED', 'COMPENSATED', 'FAILED', 'CANCELLED')) = (finished_at IS NOT NULL)),
      CHECK (finished_at IS NULL OR secrets_encrypted IS NULL),
      CHECK (status NOT IN ('COMPENSATED', 'FAILED') OR error_code IS NOT NULL)
    );
    -- Two operations on one tenant at once would undo one another's work.
    CREATE UNIQUE INDEX operations_one_open ON control_plane.operations (tenant_id)
      WHERE finished_at IS NULL;
    CREATE INDEX operations_tenant ON control_plane.operations (tenant_id, created_at);
    CREATE INDEX operations_created ON control_plane.operations (created_at, id);
    CREATE UNIQUE INDEX operations_batch ON control_plane.operations (batch_id, batch_index);

    CREATE TABLE control_plane.operation_steps (
      operation_id uuid NOT NULL REFERENCES control_plane.operations (id) ON DELETE CASCADE,
      name text NOT NULL,
      position integer NOT NULL,
      status text NOT NULL CHECK (status IN
        ('STARTED', 'SUCCEEDED', 'RETRYING', 'FAILED', 'COMPENSATING', 'COMPENSATED')),
      attempts integer NOT NULL CHECK (attempts > 0),
      started_at timestamptz,
      finished_at timestamptz,
      duration_ms integer CHECK (duration_ms >= 0),
      PRIMARY KEY (operation_id, name)
    );

    CREATE TABLE control_plane.operation_events (
      sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      -- A reader goes no further than the oldest transaction still open: sequence numbers are drawn
      -- before the commit, and a late one would slip in behind it.
      xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
      operation_id uuid NOT NULL REFERENCES control_plane.operations (id) ON DELETE CASCADE,
      tenant_id uuid NOT NULL,
      batch_id uuid,
      step text NOT NULL,
      status text NOT NULL CHECK (status IN
        ('STARTED', 'SUCCEEDED', 'RETRYING', 'FAILED', 'COMPENSATING', 'COMPENSATED')),
      operation_status text NOT NULL,
      percent integer NOT NULL CHECK (percent BETWEEN 0 AND 100),
      message text NOT NULL,
      at timestamptz NOT NULL,
      duration_ms integer CHECK (duration_ms >= 0)
    );
    CREATE INDEX operation_events_operation ON control_plane.operation_events (operation_id, sequence);
    CREATE INDEX operation_events_tenant ON control_plane.operation_events (tenant_id, sequence);
    CREATE INDEX operation_events_batch ON control_plane.operation_events (batch_id, sequence)
      WHERE batch_id IS NOT NULL;
  `);
}

/** Forward only: a control plane is restored from its backup, not rolled back under its tenants. */
export function down(): Promise<void> {
  return Promise.reject(new Error('the registry cannot be migrated down'));
}
