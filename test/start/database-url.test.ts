import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, inject, it } from 'vitest';
import { generateEncryptionKey } from '../../src/crypto/envelope.ts';
import { checkServer } from '../../src/postgres/server-check.ts';
import { onServer, withDatabase, withLogin } from '../control-template.ts';
import { createWorld } from '../harness.ts';
import { createTenant, endAll, onDatabase, startAndEnd, startGateway } from './gateway-process.ts';

const serverUrl = inject('serverUrl');
const suffix = randomBytes(6).toString('hex');
const password = `swordfish-${suffix}`;
const place = new URL(serverUrl).host;

const role = (kind: string): string => `test_${kind}_${suffix}`;
const roles = {
  full: 'LOGIN CREATEDB CREATEROLE',
  nodatabases: 'LOGIN CREATEROLE',
  noroles: 'LOGIN CREATEDB',
  nologin: 'NOLOGIN CREATEDB CREATEROLE',
} as const;

const database = (kind: string): string => `test_start_${kind}_${suffix}`;
/** What is done to each, apart from making it. */
const databases = {
  foreign: '',
  shared: `GRANT CREATE ON DATABASE ${database('shared')} TO ${role('full')}`,
  closed: `REVOKE ALL ON DATABASE ${database('closed')} FROM PUBLIC`,
  frozen: `ALTER DATABASE ${database('frozen')} SET default_transaction_read_only = on`,
} as const;

function url(as: keyof typeof roles, to: keyof typeof databases | 'absent'): string {
  return withDatabase(withLogin(serverUrl, role(as), password), database(to));
}

/** Passes everything on to the server, and has it answer that it is PostgreSQL 14. */
async function startOldServer(): Promise<Server> {
  const { hostname, port } = new URL(serverUrl);
  const proxy = createServer((client) => {
    const server = connect(Number(port), hostname);
    client.pipe(server);
    server.on('data', (data: Buffer) => {
      // The row of three columns, of which the first has two characters: the version.
      const at = data.indexOf(Buffer.from([0, 3, 0, 0, 0, 2]));
      if (at >= 0) data.write('14', at + 6);
      client.write(data);
    });
    for (const [one, other] of [
      [client, server],
      [server, client],
    ] as const) {
      one.on('error', () => other.destroy());
      one.on('close', () => other.destroy());
    }
  });
  await once(proxy.listen(0, '127.0.0.1'), 'listening');
  return proxy;
}

let oldServer: Server;
beforeAll(async () => {
  await onServer(serverUrl, async (client) => {
    for (const [kind, rights] of Object.entries(roles)) {
      await client.query(`CREATE ROLE ${role(kind)} ${rights} PASSWORD '${password}'`);
    }
    for (const [kind, change] of Object.entries(databases)) {
      await client.query(`CREATE DATABASE ${database(kind)}`);
      await client.query(change);
    }
  });
  oldServer = await startOldServer();
});
afterEach(endAll);
afterAll(() => {
  oldServer.close();
  return onServer(serverUrl, async (client) => {
    for (const kind of Object.keys(databases)) {
      await client.query(`DROP DATABASE ${database(kind)} WITH (FORCE)`);
    }
    for (const kind of Object.keys(roles)) await client.query(`DROP ROLE ${role(kind)}`);
  });
});

describe('DATABASE_URL is refused', () => {
  it.each([
    [
      'with a wrong password',
      withLogin(url('full', 'foreign'), role('full'), 'guess'),
      `${place} refuses the password of "${role('full')}"`,
    ],
    [
      'without a password',
      withLogin(url('full', 'foreign'), role('full'), ''),
      `${place} asks for the password of "${role('full')}", and the URL has none`,
    ],
    [
      'with a role that may not log in',
      url('nologin', 'foreign'),
      `${place} refuses "${role('nologin')}": role "${role('nologin')}" is not permitted to log in`,
    ],
    [
      'with a database that is not there',
      url('full', 'absent'),
      `there is no database "${database('absent')}" on ${place}`,
    ],
    [
      'with a database that is closed to the role',
      url('full', 'closed'),
      `role "${role('full')}" may not connect to "${database('closed')}" on ${place}`,
    ],
    [
      'with a role that lacks CREATEDB',
      url('nodatabases', 'foreign'),
      `role "${role('nodatabases')}" lacks CREATEDB; run once: ALTER ROLE "${role('nodatabases')}" CREATEDB`,
    ],
    [
      'with a role that lacks CREATEROLE',
      url('noroles', 'foreign'),
      `role "${role('noroles')}" lacks CREATEROLE; run once: ALTER ROLE "${role('noroles')}" CREATEROLE`,
    ],
    [
      'with a database that the role may make no schemas in',
      url('full', 'foreign'),
      `role "${role('full')}" may not create schemas in "${database('foreign')}"; run once: GRANT CREATE ON DATABASE "${database('foreign')}" TO "${role('full')}"`,
    ],
    [
      'with a server that takes no writes',
      url('full', 'frozen'),
      `${place} takes no writes: it is a standby, or default_transaction_read_only is on; name the primary`,
    ],
    [
      'with an address where nothing listens',
      'postgres://u:swordfish@127.0.0.1:1/d',
      'no PostgreSQL server can be reached at 127.0.0.1:1 (ECONNREFUSED)',
    ],
  ])('%s', async (_what, given, message) => {
    await expect(checkServer(given)).rejects.toMatchObject({
      setting: 'DATABASE_URL',
      message: `DATABASE_URL: ${message}`,
    });
  });

  it('with a server that is too old', async () => {
    const old = new URL(url('full', 'shared'));
    old.hostname = '127.0.0.1';
    old.port = String((oldServer.address() as AddressInfo).port);
    await expect(checkServer(old.href)).rejects.toMatchObject({
      setting: 'DATABASE_URL',
      message: 'DATABASE_URL: the server is PostgreSQL 14; 15 or newer is needed',
    });
  });

  it('without rights to make databases and roles only where it holds tenants', async () => {
    const control = { controlPlane: true, tenants: false };
    const tenants = { controlPlane: false, tenants: true };
    // What is said next shows that the right that is lacking was not asked for.
    await expect(checkServer(url('noroles', 'foreign'), control)).rejects.toThrow(/create schemas/);
    await expect(checkServer(url('noroles', 'foreign'), tenants)).rejects.toThrow(/CREATEROLE/);
    await expect(checkServer(url('full', 'foreign'), tenants)).resolves.toBeUndefined();
  });

  it('with something that is no PostgreSQL, and a host that nobody knows', async () => {
    const other = createServer((socket) => socket.end('220 mail ready\r\n')).listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    try {
      for (const host of [`127.0.0.1:${port}`, 'nowhere.invalid:5432']) {
        await expect(checkServer(`postgres://u:swordfish@${host}/d`)).rejects.toThrow(
          `DATABASE_URL: no PostgreSQL server can be reached at ${host} (`,
        );
      }
    } finally {
      other.close();
    }
  });

  // The others end in the same way as these two: one before, one after the tables were made.
  it.each([
    [
      'a wrong password',
      withLogin(url('full', 'foreign'), role('full'), 'guess'),
      'refuses the password',
    ],
    [
      'a database open to every role',
      url('full', 'shared'),
      `REVOKE ALL ON DATABASE "${database('shared')}" FROM PUBLIC`,
    ],
  ])('in one line, and the process exits 1: %s', async (_what, given, message) => {
    const { code, stdout, stderr } = await startAndEnd(onDatabase(given));
    expect(code).toBe(1);
    expect(stdout).not.toContain('ready');
    expect(stderr).toMatch(/^DATABASE_URL: .*\n$/);
    expect(stderr).toContain(message);
    expect(stderr).not.toContain(password);
  });
});

describe('an empty database', () => {
  it('is migrated once by four gateways that start together, and all of them serve it', async () => {
    const world = await createWorld({ admin: 'limited' });
    try {
      const settings = { ...onDatabase(world.controlUrl), ENCRYPTION_KEY: world.encryptionKey };
      const gateways = await Promise.all(
        Array.from({ length: 4 }, () => startGateway({ settings })),
      );
      const urls = await Promise.all(gateways.map((gateway) => gateway.listening()));
      const ledger = 'SELECT name FROM control_plane.knex_migrations';
      const names = (await world.query<{ name: string }>(ledger)).map(({ name }) => name);
      expect(names.length).toBeGreaterThan(0);
      expect(new Set(names).size).toBe(names.length);
      expect(await world.query('SELECT FROM control_plane.templates')).toHaveLength(1);
      const answers = await Promise.all(
        urls.map((one, index) => createTenant(one, `tenant_${index}`)),
      );
      expect(answers.map(({ status }) => status)).toEqual([201, 201, 201, 201]);
      for (const gateway of gateways) gateway.signal('SIGTERM');
      for (const gateway of gateways) expect((await gateway.ended()).code).toBe(0);

      const other = { ...settings, ENCRYPTION_KEY: generateEncryptionKey() };
      const { code, stderr } = await startAndEnd(other);
      expect(code).toBe(1);
      expect(stderr).toMatch(/^ENCRYPTION_KEY: this key does not open .*\n$/);
    } finally {
      await endAll();
      await world.close();
    }
  });
});
