import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import { releaseRoles } from '../../src/postgres/release-roles.ts';
import type { AdminClient } from '../../src/postgres/roles.ts';
import { createSchema, dropSchema, findSchema } from '../../src/postgres/schemas.ts';
import { withDatabase, withLogin } from '../control-template.ts';
import { freshName, openAdmin } from '../postgres/admin.ts';
import { hostileContents } from './hostile-contents.ts';

type Session = pg.Client & AdminClient;

const marker = 'tenantry:1:tenant:x:y';
const size = 300;

async function connect(url: string, isSuperuser = false): Promise<Session> {
  const client = new pg.Client(url);
  client.on('error', () => undefined); // its session may be ended
  await client.connect();
  const { rows } = await client.query<{ version: number }>(
    `SELECT current_setting('server_version_num')::int / 10000 AS version`,
  );
  return Object.assign(client, { isSuperuser, serverVersion: rows[0]!.version });
}

describe.each(['superuser', 'limited'] as const)('dropSchema, as a %s', (kind) => {
  const database = { name: freshName('test_shared'), marker: 'tenantry:1:shared:x' };
  const adminRole = freshName('test_admin');
  const group = freshName('test_group');
  let server: Session;
  let inside: Session;
  let admin: Session;
  let observer: Session;
  let name: string;
  let owner: string;
  let login: string;

  const asAdmin = (): Promise<Session> => {
    const url = withDatabase(inject('serverUrl'), database.name);
    return kind === 'superuser' ? connect(url, true) : connect(withLogin(url, adminRole, 'secret'));
  };

  beforeAll(async () => {
    server = await openAdmin();
    await server.query(`CREATE ROLE ${adminRole} LOGIN CREATEDB CREATEROLE PASSWORD 'secret'`);
    await server.query(
      `CREATE DATABASE ${database.name} ${kind === 'limited' ? `OWNER ${adminRole}` : ''}`,
    );
    await server.query(`REVOKE ALL ON DATABASE ${database.name} FROM PUBLIC`);
    inside = await openAdmin(database.name);
    // What runs as another than the tenant leaves a trace that no rollback removes.
    await inside.query('CREATE SEQUENCE sprung; GRANT ALL ON SEQUENCE sprung TO PUBLIC');
    [admin, observer] = [await asAdmin(), await asAdmin()];
    await admin.query(`CREATE ROLE ${group}`);
    await admin.query(`GRANT CONNECT, TEMPORARY ON DATABASE ${database.name} TO ${group}`);
  });
  afterAll(async () => {
    await Promise.all([admin.end(), observer.end(), inside.end()]);
    await server.query(`DROP DATABASE ${database.name} WITH (FORCE)`);
    await server.query(`DROP ROLE ${group}, ${adminRole}`);
    await server.end();
  });

  beforeEach(async () => {
    name = freshName('Schema');
    [owner, login] = [freshName('own'), freshName('usr')];
    await admin.query(`CREATE ROLE ${owner};
      CREATE ROLE ${login} LOGIN PASSWORD 'secret' IN ROLE ${owner};
      COMMENT ON ROLE ${login} IS '${marker}'; ALTER ROLE ${login} SET role = ${owner}`);
    const searchPath = [name];
    await createSchema(admin, { name, database, owner, login, marker, searchPath, group });
  });
  afterEach(async () => {
    await releaseRoles(admin, [login, owner], { until: Date.now() + 10_000 }); // default privileges
    await admin.query(`DROP ROLE ${login}, ${owner}`); // fails when anything is left of theirs
  });

  const asTenant = (user = login): Promise<Session> =>
    connect(withLogin(withDatabase(inject('serverUrl'), database.name), user, 'secret'));

  const drop = () =>
    dropSchema(admin, {
      name,
      database,
      owner,
      marker,
      markerPrefix: 'tenantry:1:tenant:x:',
      roles: [login, owner],
      blockerPrefix: 'tenantry:1:',
      observe: (look) => look(observer),
    });

  test.each(hostileContents)('drops $what', { timeout: 240_000 }, async ({ sql, times = 1 }) => {
    const tenant = await asTenant();
    for (const statement of sql(Math.ceil(size * times))) await tenant.query(statement);
    await tenant.end();
    await drop();
    expect(await findSchema(admin, name)).toBeNull();
    const { rows } = await inside.query('SELECT is_called FROM sprung');
    expect(rows).toEqual([{ is_called: false }]);
    await drop(); // asked for twice, it is as well
  });

  describe('while another tenant', () => {
    let neighbour: string;
    let session: Session;

    beforeEach(async () => {
      neighbour = freshName('usr');
      await admin.query(`CREATE ROLE ${neighbour} LOGIN PASSWORD 'secret';
        COMMENT ON ROLE ${neighbour} IS 'tenantry:1:tenant:z:y';
        CREATE SCHEMA ${neighbour}; GRANT USAGE, CREATE ON SCHEMA ${neighbour} TO ${neighbour};
        GRANT ${group} TO ${neighbour}`);
      const tenant = await asTenant();
      await tenant.query('CREATE TABLE t (a int); CREATE FUNCTION f() RETURNS int RETURN 1');
      await tenant.end();
      session = await asTenant(neighbour);
    });
    afterEach(async () => {
      await session.end().catch(() => undefined);
      await admin.query(`DROP SCHEMA ${neighbour} CASCADE; DROP ROLE ${neighbour}`);
    });

    const ended = () => expect(session.query('SELECT 1')).rejects.toThrow();

    test.each([
      ['holds a table locked that it was given', 'LOCK TABLE $schema.t'],
      ['has changed the rights on one and not committed', 'GRANT SELECT ON $schema.t TO PUBLIC'],
      ['has made a table in it and not committed', 'CREATE TABLE $schema.late ()'],
    ])('%s, its session is ended', async (_what, sql) => {
      // On PostgreSQL 15 a login can give itself away.
      await admin.query(`GRANT ${owner} TO ${neighbour}`);
      await session.query(`BEGIN; SET LOCAL ROLE ${owner}; ${sql.replace('$schema', `"${name}"`)}`);
      await drop();
      await ended();
      expect(await findSchema(admin, name)).toBeNull();
    });

    test('depends on an object by its oid and holds a lock, only what depends on it goes', async () => {
      const { rows } = await inside.query<{ t: number; n: number }>(
        `SELECT c.oid AS t, n.oid AS n FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
         WHERE nspname = $1 AND relname = 't'`,
        [name],
      );
      const { n, t } = rows[0]!;
      await session.query(`SET search_path = ${neighbour}`);
      await session.query(`CREATE TABLE mine (a int, r regclass DEFAULT '${t}');
        CREATE TABLE parts (r regclass DEFAULT '${t}', b int) PARTITION BY LIST (b);
        CREATE TABLE part PARTITION OF parts DEFAULT;
        CREATE VIEW seen AS SELECT '${t}'::regclass AS r, '${n}'::regnamespace AS n;
        CREATE FUNCTION named() RETURNS regclass RETURN '${t}'::regclass`);
      await session.query('BEGIN; LOCK TABLE seen, mine, parts');
      await drop();
      await ended();
      expect(await findSchema(admin, name)).toBeNull();
      const left = await inside.query(
        `SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace($1) AND relkind <> 't'
         ORDER BY 1`,
        [neighbour],
      );
      expect(left.rows.map((row: { relname: string }) => row.relname)).toEqual([
        'mine',
        'part',
        'parts',
      ]);
    });

    test('has thousands of objects that depend on one of it, none is in one transaction', async () => {
      const { rows } = await inside.query<{ t: number }>(
        `SELECT c.oid AS t FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
         WHERE nspname = $1 AND relname = 't'`,
        [name],
      );
      await session.query(`SET search_path = ${neighbour}`);
      await session.query(`DO $$ BEGIN FOR i IN 1..1500 LOOP
        EXECUTE format('CREATE TABLE t%s (r regclass DEFAULT %L)', i, ${rows[0]!.t}); COMMIT; END LOOP; END $$`);
      await drop();
      expect(await findSchema(admin, name)).toBeNull();
      const left = await inside.query(
        `SELECT count(*)::int AS tables FROM pg_class
         WHERE relnamespace = to_regnamespace($1) AND relkind = 'r'`,
        [neighbour],
      );
      expect(left.rows).toEqual([{ tables: 1500 }]);
    });
  });
});
