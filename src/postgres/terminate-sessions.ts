import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { codeOf, errorCodes } from './error-codes.ts';
import { quoteIdentifier } from './identifiers.ts';
import { existingRoles, type AdminClient } from './roles.ts';

/** A session that is still there. */
export interface OpenSession {
  readonly pid: number;
  /** Null: it is past authentication, and the server does not show its login yet. */
  readonly login: string | null;
  /** Null where the login is. */
  readonly startedAt: Date | null;
}

/** A backend that is known to be at work. */
export interface BackendId {
  readonly pid: number;
  /** Its login: a process id alone may be another one's by now. */
  readonly login: string;
}

export interface TerminateOptions {
  /** Backends that stay. */
  readonly spared?: readonly BackendId[];
  /** Milliseconds after which sessions that are still there are given back. */
  readonly patienceMs?: number;
}

const pauseMs = { first: 10, most: 250 } as const;

/**
 * Ends all sessions of these logins and looks again until there are none, in two looks behind one
 * another: a backend that has just authenticated shows up a moment later. Logins that do not exist have
 * no sessions. The logins should be closed (`closeLogins`), or new sessions come.
 *
 * @returns the sessions that did not end in time: some statements cannot be interrupted
 */
export async function terminateSessions(
  client: AdminClient,
  logins: readonly string[],
  { spared = [], patienceMs = 5_000 }: TerminateOptions = {},
): Promise<OpenSession[]> {
  const names = [...(await existingRoles(client, logins))];
  const until = performance.now() + patienceMs;
  let empty = 0;
  for (let delay: number = pauseMs.first; ; delay = Math.min(delay * 2, pauseMs.most)) {
    const open = names.length === 0 ? [] : await askToEnd(client, names, spared);
    empty = open.length === 0 ? empty + 1 : 0;
    if (empty === 2 || names.length === 0) return [];
    if (open.length > 0 && performance.now() >= until) return open;
    await sleep(delay);
  }
}

/**
 * Backends between authentication and their place in `pg_stat_activity`: they hold a lock on their
 * database's entry and have no user name. A client chooses how long that takes (`post_auth_delay`).
 */
export const startingBackends = `
  SELECT DISTINCT held.pid, held.objid AS database
  FROM pg_catalog.pg_locks AS held
  WHERE held.locktype = 'object'
    AND held.classid = CAST(CAST('pg_catalog.pg_database' AS pg_catalog.regclass) AS pg_catalog.oid)
    AND held.pid <> pg_catalog.pg_backend_pid()
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity AS shown
      WHERE shown.pid = held.pid AND shown.usesysid IS NOT NULL)`;

/** Asks all sessions to end that are there at present; returns those that were. */
async function askToEnd(
  client: AdminClient,
  logins: readonly string[],
  spared: readonly BackendId[],
): Promise<OpenSession[]> {
  const { rows } = await client.query<{ pid: number; starting: boolean }>(
    `SELECT pid, false AS starting FROM pg_catalog.pg_stat_activity
     WHERE usename = ANY (CAST($1 AS pg_catalog.name[])) AND pid <> pg_catalog.pg_backend_pid()
     UNION ALL SELECT pid, true FROM (${startingBackends}) AS starting`,
    [logins],
  );
  if (rows.length === 0) return [];
  const starting = rows.filter((row) => row.starting).map(({ pid }) => pid);
  return withRightsOf(client, logins, async () => [
    ...(await terminateShown(client, logins, spared)),
    ...(await terminateStarting(client, starting)),
  ]);
}

/**
 * Runs `work` in a transaction that has the rights of these logins and no others: what it may not end
 * is another's. The role that has them exists in this transaction alone, which is rolled back.
 */
async function withRightsOf<T>(
  client: AdminClient,
  logins: readonly string[],
  work: () => Promise<T>,
): Promise<T> {
  const role = quoteIdentifier(`tenantry_end_${randomBytes(8).toString('hex')}`);
  await client.query('BEGIN');
  try {
    await client.query(`CREATE ROLE ${role} NOLOGIN INHERIT;
      GRANT ${logins.map(quoteIdentifier).join(', ')} TO ${role};
      ${client.isSuperuser ? '' : `GRANT ${role} TO CURRENT_USER;`}
      SET LOCAL ROLE ${role}`);
    return await work();
  } finally {
    await client.query('ROLLBACK').catch(() => undefined); // the first error is the one that counts
  }
}

async function terminateShown(
  client: AdminClient,
  logins: readonly string[],
  spared: readonly BackendId[],
): Promise<OpenSession[]> {
  const { rows } = await client.query<OpenSession & { asked: boolean }>(
    `SELECT pid, CAST(usename AS pg_catalog.text) AS login, backend_start AS "startedAt",
       pg_catalog.pg_terminate_backend(pid) AS asked
     FROM pg_catalog.pg_stat_activity AS session
     WHERE usename = ANY (CAST($1 AS pg_catalog.name[])) AND NOT EXISTS (
       SELECT FROM ROWS FROM (pg_catalog.unnest(CAST($2 AS pg_catalog.int4[])),
         pg_catalog.unnest(CAST($3 AS pg_catalog.name[]))) AS spared (pid, login)
       WHERE spared.pid = session.pid AND spared.login = session.usename)`,
    [logins, spared.map(({ pid }) => pid), spared.map(({ login }) => login)],
  );
  // What could not be asked has ended meanwhile.
  return rows
    .filter(({ asked }) => asked)
    .map(({ pid, login, startedAt }) => ({ pid, login, startedAt }));
}

/** One after the other: the first that is another's would fail the statement for the rest. */
async function terminateStarting(
  client: AdminClient,
  pids: readonly number[],
): Promise<OpenSession[]> {
  const open: OpenSession[] = [];
  for (const pid of pids) {
    await client.query('SAVEPOINT one');
    try {
      const { rows } = await client.query<{ asked: boolean }>(
        'SELECT pg_catalog.pg_terminate_backend($1) AS asked',
        [pid],
      );
      if (rows[0]?.asked === true) open.push({ pid, login: null, startedAt: null });
      await client.query('RELEASE SAVEPOINT one');
    } catch (error) {
      if (codeOf(error) !== errorCodes.insufficientPrivilege) throw error;
      await client.query('ROLLBACK TO SAVEPOINT one');
    }
  }
  return open;
}
