import { codeOf, errorCodes } from './error-codes.ts';
import { quoteIdentifier } from './identifiers.ts';
import type { AdminClient } from './roles.ts';
import { terminateSessions, type OpenSession } from './terminate-sessions.ts';

const attempts = 3;

/**
 * Makes logins `NOLOGIN`: all of them, or none. Those that do not exist are fine. A session of such a
 * login that holds its role's row (`ALTER ROLE … PASSWORD` in an open transaction) is ended for it.
 *
 * @returns the sessions that keep the logins open, since they do not end; none: the logins are closed
 */
export async function closeLogins(
  client: AdminClient,
  logins: readonly string[],
): Promise<OpenSession[]> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await refuseLogins(client, logins);
      return [];
    } catch (error) {
      await client.query('ROLLBACK');
      if (codeOf(error) !== errorCodes.lockNotAvailable) throw error;
      const open = await terminateSessions(client, logins, { patienceMs: 2_000 });
      if (open.length > 0) return open;
      if (attempt === attempts) throw error;
    }
  }
}

async function refuseLogins(client: AdminClient, logins: readonly string[]): Promise<void> {
  await client.query("BEGIN; SET LOCAL lock_timeout = '1s'");
  const { rows } = await client.query<{ name: string }>(
    `SELECT CAST(rolname AS pg_catalog.text) AS name FROM pg_catalog.pg_roles
     WHERE rolname = ANY (CAST($1 AS pg_catalog.name[])) AND rolcanlogin ORDER BY rolname`,
    [logins],
  );
  for (const { name } of rows) await client.query(`ALTER ROLE ${quoteIdentifier(name)} NOLOGIN`);
  await client.query('COMMIT');
}
