import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import { closeLogins } from '../../src/postgres/close-logins.ts';
import type { AdminClient } from '../../src/postgres/roles.ts';
import { startingBackends, terminateSessions } from '../../src/postgres/terminate-sessions.ts';
import { withDatabase, withLogin } from '../control-template.ts';
import { freshName, openAdmin } from '../postgres/admin.ts';
import { isThere } from './parked.ts';
import { runUninterruptibly } from './uninterruptible.ts';

let superuser: pg.Client & AdminClient;
let limited: pg.Client & AdminClient;
let limitedName: string;
/** All sessions of these tests are in it: other files run on the same server. */
let database: string;
let own: string;
let service: string;
let neighbour: string;
const clients: pg.Client[] = [];

beforeAll(async () => {
  superuser = await openAdmin();
  limitedName = freshName('adm');
  database = freshName('db');
  await superuser.query(`CREATE DATABASE ${database}`);
  await superuser.query(`CREATE ROLE ${limitedName} LOGIN CREATEDB CREATEROLE PASSWORD 'known'`);
  // A control plane of this server closes it to PUBLIC.
  await superuser.query(`GRANT CONNECT ON DATABASE postgres TO ${limitedName}`);
  const client = new pg.Client(withLogin(inject('serverUrl'), limitedName, 'known'));
  await client.connect();
  limited = Object.assign(client, {
    isSuperuser: false,
    serverVersion: superuser.serverVersion,
  });
});
afterAll(async () => {
  await limited.end();
  await superuser.query(`DROP DATABASE ${database}`);
  await superuser.query(`REVOKE CONNECT ON DATABASE postgres FROM ${limitedName}`);
  await superuser.query(`DROP ROLE ${limitedName}`);
  await superuser.end();
});
beforeEach(async () => {
  [own, service, neighbour] = [freshName('own'), freshName('svc'), freshName('nbr')];
  for (const login of [own, service, neighbour]) {
    await limited.query(`CREATE ROLE ${login} LOGIN PASSWORD 'known'`);
  }
});
afterEach(async () => {
  await terminateSessions(superuser, [own, service, neighbour]);
  for (const client of clients.splice(0)) await client.end().catch(() => undefined);
  for (const login of [own, service, neighbour]) await superuser.query(`DROP ROLE ${login}`);
});

const admins = { superuser: () => superuser, limited: () => limited };

function open(login: string, options = ''): { client: pg.Client; ended: Promise<void> } {
  const client = new pg.Client({
    connectionString: withDatabase(withLogin(inject('serverUrl'), login, 'known'), database),
    ...(options === '' ? {} : { options }),
  });
  clients.push(client);
  const ended = new Promise<void>((resolve) => {
    client.on('error', () => undefined);
    client.once('end', resolve);
  });
  return { client, ended };
}

async function connect(login: string) {
  const session = open(login);
  await session.client.connect();
  const { rows } = await session.client.query<{ pid: number; login: string }>(
    'SELECT pg_backend_pid() AS pid, session_user::text AS login',
  );
  return { ...session, backend: rows[0]! };
}

async function starting(): Promise<number[]> {
  const { rows } = await superuser.query<{ pid: number }>(
    `SELECT pid FROM (${startingBackends}) AS starting
     WHERE database = (SELECT oid FROM pg_database WHERE datname = $1)`,
    [database],
  );
  return rows.map(({ pid }) => pid);
}

/** A session that is past authentication, and not ready; answers with its pid. */
async function park(login: string) {
  const before = await starting();
  const { client, ended } = open(login, '-c post_auth_delay=60');
  client.connect().catch(() => undefined);
  let pid: number | undefined;
  await expect
    .poll(async () => (pid = (await starting()).find((one) => !before.includes(one))), {
      timeout: 10_000,
    })
    .toBeDefined();
  return { pid: pid!, ended };
}

describe.each(['superuser', 'limited'] as const)('as %s', (kind) => {
  const admin = () => admins[kind]();

  test('ends sessions of all logins, those that are not shown yet too, and no neighbour’s', async () => {
    const sessions = [await connect(own), await connect(service)];
    const parked = [await park(own), await park(service)];
    const spared = [await park(neighbour), await connect(neighbour)] as const;
    expect(await closeLogins(admin(), [own, service, freshName('none')])).toEqual([]);
    expect(await terminateSessions(admin(), [own, service, freshName('none')])).toEqual([]);
    await Promise.all([...sessions, ...parked].map(({ ended }) => ended));
    for (const { pid } of parked) expect(await isThere(superuser, pid)).toBe(false);
    expect(await isThere(superuser, spared[0].pid)).toBe(true);
    await spared[1].client.query('SELECT 1');
    await expect(connect(own)).rejects.toMatchObject({ code: '28000' });
  });

  test('leaves what is spared', async () => {
    const [kept, other] = [await connect(service), await connect(service)];
    expect(await terminateSessions(admin(), [service], { spared: [kept.backend] })).toEqual([]);
    await other.ended;
    await kept.client.query('SELECT 1');
    const anothers = { ...kept.backend, login: own };
    expect(await terminateSessions(admin(), [service], { spared: [anothers] })).toEqual([]);
    await kept.ended;
  });

  test('leaves no role, no membership and no transaction behind', async () => {
    const session = await connect(own);
    await terminateSessions(admin(), [own]);
    await session.ended;
    const { rows } = await admin().query(
      `SELECT CAST(current_user AS text) = CAST(session_user AS text) AS itself,
         EXISTS (SELECT FROM pg_roles WHERE rolname LIKE 'tenantry_end_%') AS role,
         EXISTS (SELECT FROM pg_auth_members WHERE roleid = $1::regrole
           AND coalesce((to_jsonb(pg_auth_members) ->> 'set_option')::boolean, true)) AS member`,
      [own],
    );
    expect(rows).toEqual([{ itself: true, role: false, member: false }]);
  });

  test('a login that holds its own role is closed all the same', async () => {
    const session = await connect(own);
    await session.client.query(`BEGIN; ALTER ROLE ${own} PASSWORD 'mine'`);
    expect(await closeLogins(admin(), [own, service])).toEqual([]);
    await session.ended;
    await expect(connect(own)).rejects.toMatchObject({ code: '28000' });
  });

  test('names the session that does not end, until it has', async () => {
    const session = await connect(own);
    const lasting = await runUninterruptibly(session.client, superuser, session.backend.pid);
    await closeLogins(admin(), [own]);
    const left = await terminateSessions(admin(), [own], { patienceMs: 200 });
    expect(left).toEqual([
      { pid: session.backend.pid, login: own, startedAt: expect.any(Date) as Date },
    ]);
    await lasting.ended;
    expect(await terminateSessions(admin(), [own])).toEqual([]);
  });
});
