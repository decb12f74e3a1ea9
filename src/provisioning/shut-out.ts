import type { TenantDatabase } from '../control/tenant-databases.ts';
import { closeLogins } from '../postgres/close-logins.ts';
import type { AdminClient } from '../postgres/roles.ts';
import { terminateSessions, type OpenSession } from '../postgres/terminate-sessions.ts';
import { tenantLogins } from './names.ts';
import { StepFailure } from './step.ts';

type Logins = Pick<TenantDatabase, 'tenantId' | 'loginRole'>;

/**
 * Keeps all logins of a tenant from logging in. Sessions that are open stay.
 *
 * @throws StepFailure naming the sessions that keep a login open
 */
export async function closeDoor(client: AdminClient, database: Logins): Promise<void> {
  const open = await closeLogins(client, tenantLogins(database));
  if (open.length > 0) throw notEnding(open);
}

/**
 * Ends all sessions of a tenant whose logins are closed.
 *
 * @throws StepFailure naming those that do not end
 */
export async function endSessions(client: AdminClient, database: Logins): Promise<void> {
  const open = await terminateSessions(client, tenantLogins(database), { patienceMs: 2_000 });
  if (open.length > 0) throw notEnding(open);
}

function notEnding(open: readonly OpenSession[]): StepFailure {
  const pids = open.map(({ pid }) => pid).join(', ');
  const who = open.length === 1 ? `a session of the tenant does not end` : 'sessions do not end';
  return new StepFailure(
    `${who} (pid ${pids}): a statement that cannot be interrupted runs in it`,
    'UNAVAILABLE',
  );
}
