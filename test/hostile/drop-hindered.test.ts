import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createClosedDatabase, dropDatabase, findDatabase } from '../../src/postgres/databases.ts';
import type { AdminClient } from '../../src/postgres/roles.ts';
import { createSchema, dropSchema, findSchema } from '../../src/postgres/schemas.ts';
import { withDatabase, withLogin } from '../control-template.ts';
import { freshName } from '../postgres/admin.ts';
import { cleanUp, freshDirectory, start } from '../postgres/embedded/world.ts';
import { hostileContents } from './hostile-contents.ts';

type Session = pg.Client & AdminClient;

let url: string;
const sessions: pg.Client[] = [];

async function connect(to: string, isSuperuser = false): Promise<Session> {
  const client = new pg.Client(to);
  client.on('error', () => undefined); // its session may be ended
  sessions.push(client);
  await client.connect();
  return Object.assign(client, { isSuperuser, serverVersion: 18 });
}

const limitedAdmin = 'test_admin';

beforeAll(async () => {
  const server = await start(await freshDirectory(0o711), {
    // Few locks: what takes too many fails here, and would fail elsewhere with more of it.
    serverFlags: [
      'fsync=off',
      'shared_buffers=16MB',
      'max_connections=20',
      'max_locks_per_transaction=10',
      'max_prepared_transactions=10',
      'wal_level=logical',
    ],
  });
  url = withDatabase(server.url, 'postgres');
  const superuser = await connect(url, true);
  await superuser.query(`CREATE ROLE ${limitedAdmin} LOGIN CREATEDB CREATEROLE PASSWORD 'secret';
    CREATE SEQUENCE sprung; GRANT ALL ON SEQUENCE sprung TO PUBLIC; GRANT USAGE ON SCHEMA public TO PUBLIC`);
});
afterEach(async () => {
  for (const session of sessions.splice(0)) await session.end().catch(() => undefined);
});
afterAll(cleanUp);

describe.each(['superuser', 'limited'] as const)('as a %s', (kind) => {
  let superuser: Session;
  let admin: Session;
  let owner: string;
  let login: string;
  let name: string;

  const asAdmin = (database: string): Promise<Session> => {
    const to = withDatabase(url, database);
    return kind === 'superuser'
      ? connect(to, true)
      : connect(withLogin(to, limitedAdmin, 'secret'));
  };
  const asTenant = (database: string): Promise<Session> =>
    connect(withLogin(withDatabase(url, database), login, 'secret'));

  beforeEach(async () => {
    superuser = await connect(url, true);
    admin = await asAdmin('postgres');
    [owner, login, name] = [freshName('own'), freshName('usr'), freshName('db')];
    await admin.query(`CREATE ROLE ${owner}; CREATE ROLE ${login} LOGIN PASSWORD 'secret' IN ROLE ${owner};
      COMMENT ON ROLE ${login} IS 'tenantry:1:tenant:x:y'; ALTER ROLE ${login} SET role = ${owner}`);
  });

  describe('dropDatabase', () => {
    beforeEach(async () => {
      await createClosedDatabase(admin, { name, strategy: 'WAL_LOG' });
      await admin.query(`REVOKE ALL ON DATABASE ${name} FROM PUBLIC;
        GRANT CONNECT, CREATE, TEMPORARY ON DATABASE ${name} TO ${owner};
        ALTER DATABASE ${name} ALLOW_CONNECTIONS true`);
    });
    afterEach(() => admin.query(`DROP ROLE ${login}, ${owner}`));

    const drop = () =>
      dropDatabase(admin, name, {
        roles: [login, owner],
        inside: async (work) => {
          const inside = await asAdmin(name);
          await work(inside);
          await inside.end();
        },
      });

    test('rolls prepared transactions back, of whichever role and name', async () => {
      const tenant = await asTenant(name);
      const names = [`'it''s'`, `'${'x'.repeat(190)}'`, `E'new\nline'`];
      await tenant.query('CREATE SCHEMA s');
      for (const [index, gid] of names.entries()) {
        await tenant.query(`BEGIN; CREATE TABLE s.t${index} (); ${index === 0 ? 'SET LOCAL ROLE NONE;' : ''}
          PREPARE TRANSACTION ${gid}`);
      }
      await tenant.end();
      await drop();
      expect(await findDatabase(admin, name)).toBeNull();
      expect((await superuser.query('SELECT FROM pg_prepared_xacts')).rows).toEqual([]);
    });

    test('once it is closed, opens it for as long as that takes', async () => {
      const tenant = await asTenant(name);
      await tenant.query(`BEGIN; CREATE TEMPORARY SEQUENCE x; ROLLBACK; BEGIN; SELECT lo_create(0);
        PREPARE TRANSACTION 'left'`);
      await tenant.end();
      await admin.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS false`);
      await drop();
      expect(await findDatabase(admin, name)).toBeNull();
    });

    test('drops a subscription of whose publisher nothing is heard, or names it', async () => {
      const inside = await connect(withDatabase(url, name), true);
      // One that would be asked: where it is asked for, a connection comes in.
      await inside.query(`CREATE TABLE t (a int); CREATE SUBSCRIPTION "s'1"
        CONNECTION 'host=127.0.0.1 port=1 dbname=x user=x' PUBLICATION p
        WITH (connect = false, slot_name = 'elsewhere')`);
      await inside.end();
      if (kind === 'superuser') {
        await drop();
      } else {
        await expect(drop()).rejects.toThrow(
          `a subscription; its owner has to run in database "${name}": ALTER SUBSCRIPTION "s'1" DISABLE`,
        );
        const owning = await connect(withDatabase(url, 'postgres'), true);
        await owning.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS true`);
        const again = await connect(withDatabase(url, name), true);
        await again.query(`ALTER SUBSCRIPTION "s'1" DISABLE`);
        await again.query(`ALTER SUBSCRIPTION "s'1" SET (slot_name = NONE)`);
        await again.query(`DROP SUBSCRIPTION "s'1"`);
        await again.end();
        await drop();
      }
      expect(await findDatabase(admin, name)).toBeNull();
    });

    test('ends the sender of an active logical slot, or names it', async () => {
      const inside = await connect(withDatabase(url, name), true);
      await inside.query(`SELECT pg_create_logical_replication_slot('slot_${name}', 'pgoutput')`);
      await inside.query(`CREATE PUBLICATION p FOR ALL TABLES`);
      await inside.end();
      const sender = new pg.Client({
        connectionString: withDatabase(url, name),
        ...({ replication: 'database' } as object),
      });
      sender.on('error', () => undefined);
      sessions.push(sender);
      await sender.connect();
      // The driver does not know this protocol: it waits for an answer until its session ends.
      sender
        .query(
          `START_REPLICATION SLOT slot_${name} LOGICAL 0/0 (proto_version '1', publication_names 'p')`,
        )
        .catch(() => undefined);
      await expect
        .poll(
          async () =>
            (await superuser.query('SELECT FROM pg_replication_slots WHERE active')).rows.length,
        )
        .toBe(1);
      if (kind === 'limited') {
        await expect(drop()).rejects.toThrow(
          new RegExp(
            String.raw`an active logical replication slot; its owner has to run: SELECT pg_terminate_backend\(\d+\); SELECT pg_drop_replication_slot\('slot_${name}'\)`,
          ),
        );
        await superuser.query(
          'SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots',
        );
      }
      await drop();
      expect(await findDatabase(admin, name)).toBeNull();
      expect((await superuser.query('SELECT FROM pg_replication_slots')).rows).toEqual([]);
    });

    test('names a session that it may not end, by its pid', async () => {
      if (kind === 'superuser') return drop();
      const inside = await connect(withDatabase(url, name), true);
      const { rows } = await inside.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
      await expect(drop()).rejects.toMatchObject({
        name: 'PassingError',
        message: `database "${name}" cannot be dropped: the session with pid ${rows[0]!.pid} has not ended`,
      });
      await inside.end();
      await expect.poll(() => drop().then(() => 'dropped', String)).toBe('dropped');
    });
  });

  describe('dropSchema', () => {
    const database = { name: 'shared', marker: 'tenantry:1:shared:x' };
    const marker = 'tenantry:1:tenant:x:y';
    const group = 'test_group';
    let inShared: Session;
    let observer: Session;

    beforeEach(async () => {
      await admin.query(`CREATE DATABASE ${database.name}`);
      await admin.query(`REVOKE ALL ON DATABASE ${database.name} FROM PUBLIC; CREATE ROLE ${group};
        GRANT CONNECT, TEMPORARY ON DATABASE ${database.name} TO ${group}`);
      [inShared, observer] = [await asAdmin(database.name), await asAdmin('postgres')];
      const inside = await connect(withDatabase(url, database.name), true);
      await inside.query('CREATE SEQUENCE sprung; GRANT ALL ON SEQUENCE sprung TO PUBLIC');
      await createSchema(inShared, {
        name,
        database,
        owner,
        login,
        marker,
        group,
        searchPath: [name],
      });
    });
    afterEach(async () => {
      await superuser.query(`DROP DATABASE ${database.name} WITH (FORCE)`);
      await admin.query(`DROP ROLE ${group}, ${login}, ${owner}`);
    });

    const drop = () =>
      dropSchema(inShared, {
        name,
        database,
        owner,
        marker,
        markerPrefix: 'tenantry:1:tenant:x:',
        roles: [login, owner],
        blockerPrefix: 'tenantry:1:',
        observe: (look) => look(observer),
      });

    test.each(hostileContents)(
      'takes few locks for $what',
      { timeout: 240_000 },
      async ({ sql, times = 1 }) => {
        const tenant = await asTenant(database.name);
        for (const statement of sql(Math.ceil(400 * Math.min(times, 2))))
          await tenant.query(statement);
        await tenant.end();
        await drop();
        expect(await findSchema(inShared, name)).toBeNull();
      },
    );

    test('rolls the tenant’s prepared transactions back, and another’s that is in the way', async () => {
      const neighbour = freshName('usr');
      await admin.query(`CREATE ROLE ${neighbour} LOGIN PASSWORD 'secret' IN ROLE ${owner}, ${group};
        COMMENT ON ROLE ${neighbour} IS 'tenantry:1:tenant:z:y'`);
      const tenant = await asTenant(database.name);
      await tenant.query(`CREATE TABLE t ()`);
      await tenant.query(`BEGIN; CREATE TABLE late (); PREPARE TRANSACTION 'a'`);
      const other = await connect(withLogin(withDatabase(url, database.name), neighbour, 'secret'));
      await other.query(`BEGIN; LOCK TABLE ${name}.t; PREPARE TRANSACTION 'b'`);
      await other.query(`BEGIN; CREATE TEMPORARY SEQUENCE q; ROLLBACK; BEGIN; SELECT lo_create(4711);
        PREPARE TRANSACTION 'c'`);
      await drop();
      expect(await findSchema(inShared, name)).toBeNull();
      const { rows } = await superuser.query('SELECT gid FROM pg_prepared_xacts');
      expect(rows).toEqual([{ gid: 'c' }]); // it held nothing up
      const inside = await connect(withDatabase(url, database.name), true);
      await inside.query(`ROLLBACK PREPARED 'c'`);
      await inside.end();
      await other.end();
      await admin.query(`DROP ROLE ${neighbour}`);
    });
  });
});
