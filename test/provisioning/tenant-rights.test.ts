import pg from 'pg';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { createWorld, type World } from '../harness.ts';
import { withDatabase } from '../control-template.ts';
import { asTenant, connectionString, makeTenant, refusal, type Made } from './tenants.ts';

let world: World;
let acme: Made;
let other: Made;
/** The names of both tenants' databases and roles. */
let names: {
  database: string;
  owner: string;
  login: string;
  otherOwner: string;
  otherLogin: string;
};

beforeAll(async () => {
  world = await createWorld();
  const gateway = await world.start();
  acme = await makeTenant(gateway, { name: 'Rights', databaseNaming: 'SLUG' });
  other = await makeTenant(gateway, { name: 'Other' });
  const [mine, theirs] = await Promise.all([rolesOf(acme), rolesOf(other)]);
  names = {
    database: acme.tenant.database.databaseName,
    owner: mine.owner,
    login: mine.login,
    otherOwner: theirs.owner,
    otherLogin: theirs.login,
  };
});
afterAll(() => world.close());

async function rolesOf(made: Made): Promise<{ owner: string; login: string }> {
  const [row] = await world.query<{ owner: string; login: string }>(
    `SELECT owner_role AS owner, login_role AS login FROM control_plane.tenant_databases
     WHERE tenant_id = $1`,
    [made.tenant.id],
  );
  return row!;
}

/** Runs SQL as the tenant Acme. */
function run(sql: string) {
  return asTenant(world, acme.tenant.id, (client) => client.query<Record<string, unknown>>(sql));
}

describe('a tenant’s credentials open its database and no other', () => {
  test.each([
    ['another tenant’s', () => other.tenant.database.databaseName],
    ['the control plane', () => new URL(world.controlUrl).pathname.slice(1)],
    ['the maintenance database', () => 'postgres'],
    ['template1', () => 'template1'],
    ['template0', () => 'template0'],
    ['the template it was copied from', templateName],
  ])('%s', async (_name, database) => {
    const url = withDatabase(await connectionString(world, acme.tenant.id), await database());
    const client = new pg.Client(url);
    // 42501: no CONNECT; 55000: it takes no connections at all.
    expect(await refusal(client.connect())).toMatch(/^(42501|55000)$/);
  });

  test('none of those that the server has, whoever made them', async () => {
    const rows = await world.query<{ datname: string }>(
      `SELECT datname FROM pg_database
       WHERE datallowconn AND has_database_privilege($1, oid, 'CONNECT')
         -- Not the test server's own, and those that other test files have not closed yet.
         AND datname <> $2 AND datname NOT LIKE 'test\\_%'`,
      [names.login, new URL(inject('serverUrl')).pathname.slice(1)],
    );
    expect(rows.map((row) => row.datname)).toEqual([names.database]);
  });

  test('only with its password', async () => {
    const url = new URL(await connectionString(world, acme.tenant.id));
    url.password = 'wrong';
    expect(await refusal(new pg.Client(url.href).connect())).toBe('28P01');
  });

  test('and the owner role cannot log in', async () => {
    const url = new URL(await connectionString(world, acme.tenant.id));
    url.username = names.owner;
    expect(await refusal(new pg.Client(url.href).connect())).toMatch(/^28(000|P01)$/);
  });
});

async function templateName(): Promise<string> {
  const [row] = await world.query<{ name: string }>(
    'SELECT database_name AS name FROM control_plane.templates',
  );
  return row!.name;
}

describe('a tenant may', () => {
  test.each([
    ['make a table', 'CREATE TABLE orders (id int PRIMARY KEY)'],
    ['write its tables', `INSERT INTO settings (key, value) VALUES ('theme', '"dark"')`],
    ['append to the activity log', `INSERT INTO activity_log (action) VALUES ('login')`],
    ['make a schema with a table', 'CREATE SCHEMA shop CREATE TABLE carts (id int)'],
    ['make temporary tables', 'CREATE TEMPORARY TABLE scratch (id int)'],
    ['alter a table of the migrations', 'ALTER TABLE settings ADD COLUMN note text'],
    ['index a table of the migrations', 'CREATE INDEX ON activity_log (created_at)'],
    ['drop a table of the migrations', 'DROP TABLE activity_log'],
    ['make functions', `CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'`],
    ['alter the schema public', `COMMENT ON SCHEMA public IS 'ours'`],
  ])('%s', async (_name, sql) => {
    await run(sql);
  });

  test('own all that is in its database', async () => {
    await run('CREATE TABLE IF NOT EXISTS own (id serial PRIMARY KEY)');
    const { rows } = await run(
      `SELECT DISTINCT relowner::regrole::text AS owner FROM pg_class c
       JOIN pg_namespace n ON n.oid = c.relnamespace WHERE nspname IN ('public', 'shop')
       UNION SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'public'`,
    );
    expect(rows).toEqual([{ owner: names.owner }]);
  });
});

describe('a tenant may not', () => {
  test.each<[string, () => string]>([
    [
      'change its database’s settings',
      () => `ALTER DATABASE "${names.database}" SET work_mem = '1GB'`,
    ],
    ['lift its connection limit', () => `ALTER DATABASE "${names.database}" CONNECTION LIMIT 7`],
    [
      'become its database’s owner',
      () => `ALTER DATABASE "${names.database}" OWNER TO "${names.owner}"`,
    ],
    ['rename its database', () => `ALTER DATABASE "${names.database}" RENAME TO mine`],
    ['close its database', () => `ALTER DATABASE "${names.database}" ALLOW_CONNECTIONS false`],
    ['make it a template', () => `ALTER DATABASE "${names.database}" IS_TEMPLATE true`],
    ['forge its marker', () => `COMMENT ON DATABASE "${names.database}" IS 'tenantry:1:mine'`],
    ['drop its database', () => `DROP DATABASE "${names.database}"`],
    ['make databases', () => 'CREATE DATABASE more'],
    ['make roles', () => 'CREATE ROLE more'],
    ['forge its role’s marker', () => `COMMENT ON ROLE "${names.owner}" IS 'mine'`],
    [
      'lift its login’s connection limit',
      () => `ALTER ROLE "${names.login}" CONNECTION LIMIT 1000`,
    ],
    ['let its owner role log in', () => `ALTER ROLE "${names.owner}" LOGIN`],
    ['become another tenant', () => `SET ROLE "${names.otherOwner}"`],
    ['become another tenant’s login', () => `SET ROLE "${names.otherLogin}"`],
    ['become the admin', () => `SET ROLE "${new URL(inject('serverUrl')).username}"`],
    ['give its role away', () => `GRANT "${names.owner}" TO "${names.otherOwner}"`],
    ['read passwords', () => 'SELECT rolpassword FROM pg_authid'],
    ['read passwords the old way', () => 'SELECT passwd FROM pg_shadow'],
    ['read the server’s files', () => `SELECT pg_read_file('PG_VERSION')`],
    ['run programs', () => `COPY settings TO PROGRAM 'cat'`],
    [
      'make untrusted functions',
      () => `CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'libc', 'abs'`,
    ],
    ['read the server’s configuration files', () => 'SELECT * FROM pg_hba_file_rules'],
    [
      'end others’ sessions',
      () => `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE usename <> session_user LIMIT 1`,
    ],
    ['look at the control plane over a link', () => 'CREATE EXTENSION dblink'],
  ])('%s', async (_name, sql) => {
    expect(await refusal(run(sql()))).toMatch(/^(42501|55006|58P01|0A000)$/);
  });

  test.each<[string, () => string]>([
    [
      'open its database to everybody',
      () => `GRANT CONNECT ON DATABASE "${names.database}" TO PUBLIC`,
    ],
    [
      'open it to another tenant',
      () => `GRANT CONNECT ON DATABASE "${names.database}" TO "${names.otherLogin}"`,
    ],
    ['open the control plane', () => `GRANT CONNECT ON DATABASE postgres TO PUBLIC`],
  ])('%s, even where the server only warns', async (_name, sql) => {
    const acl = () =>
      world.query(
        `SELECT datname, datacl::text FROM pg_database WHERE datname IN ($1, 'postgres') ORDER BY 1`,
        [names.database],
      );
    const before = await acl();
    await run(sql()).catch(() => undefined);
    expect(await acl()).toEqual(before);
  });

  test('see more than names of the others: no password, no address, no query', async () => {
    const { rows } = await run(
      `SELECT rolpassword AS shown FROM pg_roles WHERE rolpassword <> '********'
       UNION SELECT query FROM pg_stat_activity
         WHERE usename <> session_user AND query <> '<insufficient privilege>'
       UNION SELECT client_addr::text FROM pg_stat_activity
         WHERE usename <> session_user AND client_addr IS NOT NULL`,
    );
    expect(rows).toEqual([]);
  });
});
