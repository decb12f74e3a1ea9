import type { Knex } from 'knex';

/** API keys, idempotency records, the audit log, rate limits, and the templates that clusters hold. */
export async function up(knex: Knex): Promise<void> {
  await knex.schema.raw(`
    CREATE TABLE control_plane.api_keys (
      id uuid PRIMARY KEY,
      tenant_id uuid NOT NULL REFERENCES control_plane.tenants (id),
      display text NOT NULL,
      -- The first random characters: the readable part in front of them is not unique.
      lookup text NOT NULL CHECK (char_length(lookup) = 12),
      hash bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
      created_at timestamptz NOT NULL DEFAULT now(),
      -- Without effect until the tenant is active.
      activated_at timestamptz,
      last_used_at timestamptz,
      expires_at timestamptz,
      revoked_at timestamptz
    );
    CREATE INDEX api_keys_lookup ON control_plane.api_keys (lookup);
    CREATE INDEX api_keys_tenant ON control_plane.api_keys (tenant_id);

    CREATE TABLE control_plane.idempotency_records (
      caller text NOT NULL,
      mutation text NOT NULL,
      key text NOT NULL CHECK (char_length(key) BETWEEN 1 AND 255),
      payload_hash bytea NOT NULL CHECK (octet_length(payload_hash) = 32),
      operation_id uuid NOT NULL REFERENCES control_plane.operations (id) ON DELETE CASCADE,
      api_key_encrypted text,
      created_at timestamptz NOT NULL DEFAULT now(),
      expires_at timestamptz NOT NULL,
      PRIMARY KEY (caller, mutation, key)
    );
    CREATE INDEX idempotency_records_operation ON control_plane.idempotency_records (operation_id);
    CREATE INDEX idempotency_records_expiry ON control_plane.idempotency_records (expires_at);

    CREATE TABLE control_plane.audit_log (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      at timestamptz NOT NULL DEFAULT now(),
      actor text NOT NULL,
      partner text NOT NULL,
      ip_address text,
      action text NOT NULL,
      tenant_id uuid,
      from_status text,
      to_status text,
      outcome text NOT NULL,
      request_id text,
      details jsonb
    );
    CREATE INDEX audit_log_tenant ON control_plane.audit_log (tenant_id, id);
    CREATE FUNCTION control_plane.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'insufficient_privilege';
      END $$;
    CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE ON control_plane.audit_log
      FOR EACH ROW EXECUTE FUNCTION control_plane.refuse_change();
    CREATE TRIGGER audit_log_no_truncate BEFORE TRUNCATE ON control_plane.audit_log
      FOR EACH STATEMENT EXECUTE FUNCTION control_plane.refuse_change();

    -- Laid out as rate-limiter-flexible reads it. Unlogged: a crash may forget a minute's counts.
    CREATE UNLOGGED TABLE control_plane.rate_limits (
      key varchar(255) PRIMARY KEY,
      points integer NOT NULL DEFAULT 0,
      expire bigint
    );

    -- What an applied tenant migration contained: one that was changed afterwards is refused by name.
    CREATE TABLE control_plane.tenant_migrations (
      name text PRIMARY KEY,
      content_hash bytea NOT NULL CHECK (octet_length(content_hash) = 32),
      first_applied_at timestamptz NOT NULL DEFAULT now()
    );

    -- The migrated databases that tenants are copied from. The row comes before the database: whatever
    -- has a row that is not READY may exist half, and is dropped before it is built again.
    CREATE TABLE control_plane.templates (
      id uuid PRIMARY KEY,
      cluster text NOT NULL CHECK (cluster <> ''),
      content_hash bytea NOT NULL CHECK (octet_length(content_hash) = 32),
      database_name text NOT NULL CHECK (octet_length(database_name) BETWEEN 1 AND 63),
      owner_role text NOT NULL CHECK (octet_length(owner_role) BETWEEN 1 AND 63),
      migration_version text,
      status text NOT NULL CHECK (status IN ('BUILDING', 'READY', 'DROPPING')),
      created_at timestamptz NOT NULL DEFAULT now(),
      UNIQUE (cluster, database_name)
    );
    CREATE UNIQUE INDEX templates_one_ready ON control_plane.templates (cluster, content_hash)
      WHERE status = 'READY';
  `);
}

/** Forward only: see the first migration. */
export function down(): Promise<void> {
  return Promise.reject(new Error('the registry cannot be migrated down'));
}
