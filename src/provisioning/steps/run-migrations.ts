import type { Isolation } from '../isolation/isolation.ts';
import type { Step } from '../step.ts';

/** Brings the tenant database to the newest tenant migration. Undone with the database. */
export function runMigrations(isolation: Isolation): Step {
  return {
    name: 'run_migrations',
    run: (context) => isolation.migrate(context),
  };
}
