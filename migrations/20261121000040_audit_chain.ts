import type { Knex } from 'knex';

/**
 * The audit log becomes a chain: each entry's hash covers that of the entry before it and a row's whole
 * content, so that a row that is changed, removed or slipped in later shows. And an idempotency key may
 * belong to a change that needs no operation.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.schema.raw(`
    CREATE INDEX audit_log_at ON control_plane.audit_log (at, id);
    CREATE INDEX audit_log_partner ON control_plane.audit_log (partner, at, id);

    -- The entries, in the order of their commits: unlike the rows' ids, which are drawn before.
    CREATE TABLE control_plane.audit_chain (
      sequence bigint PRIMARY KEY CHECK (sequence > 0),
      audit_id bigint NOT NULL UNIQUE,
      hash bytea NOT NULL CHECK (octet_length(hash) = 32)
    );

    -- Where the chain ends: what is removed at its tail shows as well. And where it begins, once older
    -- entries were pruned.
    CREATE TABLE control_plane.audit_head (
      singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
      sequence bigint NOT NULL DEFAULT 0,
      hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex') CHECK (octet_length(hash) = 32),
      anchor_sequence bigint NOT NULL DEFAULT 0,
      anchor_hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex')
        CHECK (octet_length(anchor_hash) = 32),
      CHECK (anchor_sequence BETWEEN 0 AND sequence)
    );
    INSERT INTO control_plane.audit_head DEFAULT VALUES;

    -- Each column with its length in bytes in front: no two rows have one text. src/control/audit-chain.ts
    -- makes the same text by itself, and asks nobody who could be made to lie.
    CREATE FUNCTION control_plane.audit_content(entry control_plane.audit_log) RETURNS bytea
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
      SELECT convert_to(string_agg(coalesce(octet_length(field)::text || ':' || field, '-'), ',' ORDER BY place), 'UTF8')
      FROM unnest(ARRAY[
        entry.id::text,
        to_char(entry.at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'),
        entry.actor, entry.partner, entry.ip_address, entry.action, entry.tenant_id::text,
        entry.from_status, entry.to_status, entry.outcome, entry.request_id, entry.details::text
      ]) WITH ORDINALITY AS fields (field, place)
    $$;

    -- Runs as its owner: whoever inserts rows must not be able to write entries.
    CREATE FUNCTION control_plane.chain_audit() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
      DECLARE
        next_sequence bigint;
        next_hash bytea;
      BEGIN
        UPDATE control_plane.audit_head
          SET sequence = sequence + 1,
            hash = sha256(hash || int8send(sequence + 1) || control_plane.audit_content(NEW))
          RETURNING sequence, hash INTO STRICT next_sequence, next_hash;
        INSERT INTO control_plane.audit_chain (sequence, audit_id, hash)
          VALUES (next_sequence, NEW.id, next_hash);
        RETURN NULL;
      END $$;

    -- Deferred: the head is locked by the commit itself and for no longer, so that a transaction that is
    -- slow, or a client that stalls in the middle of one, holds nobody up.
    CREATE CONSTRAINT TRIGGER audit_log_chained AFTER INSERT ON control_plane.audit_log
      DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION control_plane.chain_audit();

    -- What is older than the anchor may go; nothing else, and nothing may change.
    CREATE OR REPLACE FUNCTION control_plane.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        IF TG_OP = 'DELETE' THEN
          PERFORM FROM control_plane.audit_chain JOIN control_plane.audit_head
            ON audit_chain.sequence <= audit_head.anchor_sequence WHERE audit_chain.audit_id = OLD.id;
          IF FOUND THEN RETURN OLD; END IF;
        END IF;
        RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'insufficient_privilege';
      END $$;

    DO $$
      DECLARE
        entry control_plane.audit_log;
      BEGIN
        FOR entry IN SELECT * FROM control_plane.audit_log ORDER BY id LOOP
          WITH head AS (
            UPDATE control_plane.audit_head
              SET sequence = sequence + 1,
                hash = sha256(hash || int8send(sequence + 1) || control_plane.audit_content(entry))
              RETURNING sequence, hash)
          INSERT INTO control_plane.audit_chain (sequence, audit_id, hash)
            SELECT sequence, entry.id, hash FROM head;
        END LOOP;
      END $$;

    ALTER TABLE control_plane.idempotency_records
      ALTER COLUMN operation_id DROP NOT NULL,
      ADD COLUMN tenant_id uuid REFERENCES control_plane.tenants (id),
      ADD CONSTRAINT idempotency_records_subject
        CHECK (num_nonnulls(operation_id, tenant_id) = 1);
  `);
}

/** Forward only: see the first migration. */
export function down(): Promise<void> {
  return Promise.reject(new Error('the registry cannot be migrated down'));
}
