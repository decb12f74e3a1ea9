import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { Drift } from '../control/drift.ts';
import type { Registered } from '../control/registered.ts';
import type { Cluster } from '../postgres/cluster.ts';
import { closeServiceLogin, type AdminClient } from '../postgres/roles.ts';
import {
  startingBackends,
  terminateSessions,
  type BackendId,
  type OpenSession,
} from '../postgres/terminate-sessions.ts';
import { isServiceLogin, serviceRoleName, templateRoles } from './names.ts';

/** A login that must not have sessions while it is closed. */
interface ClosedLogin {
  readonly name: string;
  readonly tenantId: string;
  readonly database: string;
}

/**
 * Uses of service logins that last, by their login; `pid` null: one that has not connected yet. Asked for
 * after the sessions were looked at.
 */
export type ServiceUses = () => Promise<ReadonlyMap<string, { readonly pid: number | null }>>;

// A backend that only passes this stage has its name, or is gone, by then.
const passingMs = 500;
// Each is granted in one transaction, and takes a lock in it.
const loginsAtOnce = 200;

/**
 * Ends the sessions of logins that the registry has closed: those of suspended and deleted tenants, and
 * all service logins. Of a login that may log in on the server, another check tells.
 *
 * @returns a finding for each login with a session that does not end
 */
export async function endClosedSessions(
  cluster: Cluster,
  registered: readonly Registered[],
  signal: AbortSignal,
  uses: ServiceUses,
): Promise<Drift[]> {
  const logins = registered.flatMap(closedLogins);
  await closeServiceLogins(cluster, logins, uses, signal);
  const suspects = await cluster.admin((client) => findSuspects(client, logins), signal);
  if (suspects.length === 0) return [];
  return cluster.admin(async (client) => {
    const backends = [...(await uses())].flatMap(([login, { pid }]): BackendId[] =>
      pid === null ? [] : [{ login, pid }],
    );
    const open: OpenSession[] = [];
    for (let start = 0; start < suspects.length; start += loginsAtOnce) {
      const names = suspects.slice(start, start + loginsAtOnce);
      const options = { spared: backends, patienceMs: 2_000 };
      open.push(...(await terminateSessions(client, names, options)));
    }
    return findingsOf(open, logins);
  }, signal);
}

function closedLogins({
  databaseName,
  id,
  loginRole,
  mayLogIn,
  source,
}: Registered): ClosedLogin[] {
  if (source === 'SHARED') return [];
  const name = source === 'TEMPLATE' ? templateRoles(id).service : serviceRoleName(id);
  const service = { name, tenantId: id, database: databaseName };
  const closed = source === 'TENANT' && mayLogIn === false && loginRole !== null;
  return closed ? [service, { ...service, name: loginRole }] : [service];
}

/** Closes service logins that were left open by an instance that died in the middle of a use. */
async function closeServiceLogins(
  cluster: Cluster,
  logins: readonly ClosedLogin[],
  uses: ServiceUses,
  signal: AbortSignal,
): Promise<void> {
  const services = logins.flatMap(({ name }) => (isServiceLogin(name) ? [name] : []));
  const open = await cluster.admin((client) => whichMayLogIn(client, services), signal);
  if (open.length === 0) return;
  const used = await uses();
  for (const name of open) {
    if (!used.has(name)) await cluster.admin((client) => closeServiceLogin(client, name), signal);
  }
}

async function whichMayLogIn(client: pg.ClientBase, names: readonly string[]): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT CAST(rolname AS pg_catalog.text) AS name FROM pg_catalog.pg_roles
     WHERE rolname = ANY (CAST($1 AS pg_catalog.name[])) AND rolcanlogin`,
    [names],
  );
  return rows.map(({ name }) => name);
}

/** Names of the logins that have sessions, or may have some that the server does not show yet. */
async function findSuspects(
  client: AdminClient,
  logins: readonly ClosedLogin[],
): Promise<string[]> {
  const byName = new Map(logins.map((login) => [login.name, login]));
  const seen = await look(client);
  const named = seen.flatMap(({ login }) => (login === null ? [] : [login]));
  const databases = await lastingStarts(client, seen, new Set(logins.map((one) => one.database)));
  const possible = logins.filter(({ database }) => databases.has(database));
  const suspects = new Set([...named, ...possible.map(({ name }) => name)]);
  return closedOnServer(
    client,
    [...suspects].filter((name) => byName.has(name)),
  );
}

interface Seen {
  readonly pid: number;
  /** Null: it is starting, in this database. */
  readonly login: string | null;
  readonly database: string | null;
}

/** Sessions of roles that may not log in, and backends that are starting: one query for all of them. */
async function look(client: pg.ClientBase): Promise<Seen[]> {
  const { rows } = await client.query<Seen>(
    `SELECT session.pid, CAST(role.rolname AS pg_catalog.text) AS login, NULL AS database
     FROM pg_catalog.pg_stat_activity AS session
     JOIN pg_catalog.pg_roles AS role ON role.oid = session.usesysid WHERE NOT role.rolcanlogin
     UNION ALL
     SELECT starting.pid, NULL, CAST(entry.datname AS pg_catalog.text)
     FROM (${startingBackends}) AS starting
     JOIN pg_catalog.pg_database AS entry ON entry.oid = starting.database`,
  );
  return rows;
}

/** Those of these databases in which a backend has been starting for longer than that takes. */
async function lastingStarts(
  client: pg.ClientBase,
  seen: readonly Seen[],
  databases: ReadonlySet<string>,
): Promise<ReadonlySet<string>> {
  const starting = seen.filter(({ database }) => database !== null && databases.has(database));
  if (starting.length === 0) return new Set();
  await sleep(passingMs);
  const pids = new Set(starting.map(({ pid }) => pid));
  const still = (await look(client)).filter(({ login, pid }) => login === null && pids.has(pid));
  return new Set(still.flatMap(({ database }) => database ?? []));
}

async function closedOnServer(client: pg.ClientBase, names: readonly string[]): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT CAST(rolname AS pg_catalog.text) AS name FROM pg_catalog.pg_roles
     WHERE rolname = ANY (CAST($1 AS pg_catalog.name[])) AND NOT rolcanlogin`,
    [names],
  );
  return rows.map(({ name }) => name);
}

/** Of a backend that is still starting nobody says whose it is; the next turn finds it by its name. */
function findingsOf(open: readonly OpenSession[], logins: readonly ClosedLogin[]): Drift[] {
  const byLogin = Map.groupBy(
    open.filter(({ login }) => login !== null),
    ({ login }) => login,
  );
  return logins.flatMap(({ name, tenantId }) => {
    const sessions = byLogin.get(name);
    if (sessions === undefined) return [];
    const list = sessions.map(({ pid, startedAt }) => `pid ${pid}, ${ageOf(startedAt)}`).join('; ');
    return {
      kind: 'OPEN_SESSION',
      objectType: 'ROLE',
      objectName: name,
      tenantId,
      detail: `it may not log in, and has sessions that do not end: ${list}`,
    } as const;
  });
}

function ageOf(startedAt: Date | null): string {
  if (startedAt === null) return 'of unknown age';
  return `${Math.round((Date.now() - startedAt.getTime()) / 1000)} s old`;
}
