import type { Knex } from 'knex';

/**
 * Events are appended by a function that locks first and reads the fence in a statement of its own. In one
 * statement the snapshot is older than the lock, and an instance that lost its operation while it waited
 * would still write. Whatever raises a fence takes the same lock, so that no append is under way meanwhile.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.schema.raw(`
    -- Null: written before.
    ALTER TABLE control_plane.operation_events ADD COLUMN fence bigint;

    -- Appends events, brings the states of their steps up to date, and returns the ids of the operations
    -- and batches that have news. Leaves out events of an older fence, and those that are there already:
    -- an instance that got no answer sends them again.
    CREATE FUNCTION control_plane.append_events(given_events jsonb, given_steps jsonb) RETURNS SETOF uuid
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
      BEGIN
        PERFORM pg_advisory_xact_lock(7311, 1);
        RETURN QUERY
        WITH current AS MATERIALIZED (
          SELECT event.*, held.batch_id
          FROM jsonb_to_recordset(given_events) AS event (
            place integer, operation_id uuid, fence bigint, tenant_id uuid, step text, status text,
            operation_status text, percent integer, message text, at timestamptz, duration_ms integer)
          JOIN control_plane.operations held
            ON held.id = event.operation_id AND held.fence = event.fence
          WHERE NOT EXISTS (SELECT FROM control_plane.operation_events present
            WHERE present.operation_id = event.operation_id AND present.step = event.step
              AND present.status = event.status AND present.message = event.message
              AND present.at = event.at)
        ),
        written AS (
          INSERT INTO control_plane.operation_events (operation_id, tenant_id, batch_id, fence, step,
            status, operation_status, percent, message, at, duration_ms)
          SELECT operation_id, tenant_id, batch_id, fence, step, status, operation_status, percent,
            message, at, duration_ms
          FROM current ORDER BY place
          RETURNING operation_id, batch_id
        ),
        stepped AS (
          INSERT INTO control_plane.operation_steps (operation_id, name, position, status, attempts,
            started_at, finished_at, duration_ms)
          SELECT step.operation_id, step.name, step.position, step.status, step.attempts,
            step.started_at, step.finished_at, step.duration_ms
          FROM jsonb_to_recordset(given_steps) AS step (
            operation_id uuid, fence bigint, name text, position integer, status text,
            attempts integer, started_at timestamptz, finished_at timestamptz, duration_ms integer)
          WHERE (step.operation_id, step.fence, step.name) IN
            (SELECT current.operation_id, current.fence, current.step FROM current)
          ON CONFLICT (operation_id, name) DO UPDATE SET
            status = excluded.status,
            attempts = greatest(operation_steps.attempts, excluded.attempts),
            started_at = coalesce(operation_steps.started_at, excluded.started_at),
            finished_at = excluded.finished_at,
            duration_ms = coalesce(excluded.duration_ms, operation_steps.duration_ms)
        )
        SELECT DISTINCT news.id
        FROM written, unnest(ARRAY[written.operation_id, written.batch_id]) AS news (id)
        WHERE news.id IS NOT NULL;
      END $$;

    CREATE FUNCTION control_plane.lock_event_writers() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
      BEGIN
        PERFORM pg_advisory_xact_lock(7311, 1);
        RETURN NULL;
      END $$;

    -- After the row is locked: a takeover may wait for the row for seconds, and must not keep writers of
    -- events waiting meanwhile. Writers never wait for the row.
    CREATE TRIGGER operations_fenced AFTER UPDATE OF fence ON control_plane.operations
      FOR EACH ROW EXECUTE FUNCTION control_plane.lock_event_writers();
  `);
}

/** Forward only: see the first migration. */
export function down(): Promise<void> {
  return Promise.reject(new Error('the registry cannot be migrated down'));
}
