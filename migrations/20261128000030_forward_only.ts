import type { Knex } from 'knex';

/**
 * Operations that only go forward: they have no deadline, and deletions under way are not undone any
 * more. Sessions that stay behind a closed door are findings.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.schema.raw(`
    ALTER TABLE control_plane.operations ALTER COLUMN deadline_at DROP NOT NULL;
    ALTER TABLE control_plane.operations ADD CONSTRAINT operations_deadline
      CHECK (deadline_at IS NOT NULL
        OR kind NOT IN ('CREATE', 'ROTATE_CREDENTIALS', 'MIGRATE'));
    UPDATE control_plane.operations
      SET status = 'RUNNING', deadline_at = NULL, error_code = NULL, error_message = NULL
      WHERE kind = 'DELETE' AND status IN ('RUNNING', 'COMPENSATING');

    ALTER TABLE control_plane.drift_findings DROP CONSTRAINT drift_findings_kind_check;
    ALTER TABLE control_plane.drift_findings ADD CONSTRAINT drift_findings_kind_check
      CHECK (kind IN ('ORPHAN', 'MISSING', 'UNMARKED', 'WRONG_OWNER', 'WRONG_GRANTS', 'WRONG_VERSION',
        'HALF_DROPPED', 'OPEN_SESSION', 'LEFTOVER_ROLE'));
  `);
}

/** Forward only: see the first migration. */
export function down(): Promise<void> {
  return Promise.reject(new Error('the registry cannot be migrated down'));
}
