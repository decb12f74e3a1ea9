import pg from 'pg';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { createWorld, type World } from '../harness.ts';
import { onServer, withDatabase } from '../control-template.ts';
import { isolations } from './isolations.ts';
import { asTenant, connectionString, makeTenant, placeOf, refusal, type Made } from './tenants.ts';

describe.each(isolations)('$isolation', ({ isolation, named }) => {
  let world: World;
  let acme: Made;
  let other: Made;
  /** A tenant of the other kind. */
  let stranger: Made;
  /** The names of both tenants' places and roles. */
  let names: {
    database: string;
    schema: string;
    otherSchema: string;
    owner: string;
    login: string;
    otherOwner: string;
    otherLogin: string;
  };

  beforeAll(async () => {
    world = await createWorld();
    const gateway = await world.start();
    acme = await makeTenant(gateway, { name: `Rights ${isolation}`, ...named });
    other = await makeTenant(gateway, { name: 'Other', isolation });
    stranger = await makeTenant(gateway, {
      name: 'Stranger',
      isolation: isolation === 'SCHEMA' ? 'DATABASE' : 'SCHEMA',
    });
    const [mine, theirs] = await Promise.all([rolesOf(acme), rolesOf(other)]);
    names = {
      database: acme.tenant.database.databaseName,
      schema: acme.tenant.database.schemaName ?? 'public',
      otherSchema: placeOf(other),
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
    test.each<[string, () => string | Promise<string>]>([
      ['that of a tenant of the other kind', () => stranger.tenant.database.databaseName],
      [
        'another tenant’s',
        () => (isolation === 'DATABASE' ? other : stranger).tenant.database.databaseName,
      ],
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
         AND datname <> $2 AND (datname = $3 OR datname NOT LIKE 'test\\_%')`,
        [names.login, new URL(inject('serverUrl')).pathname.slice(1), names.database],
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
    test.each(
      [
        ['make a table', 'CREATE TABLE orders (id int PRIMARY KEY)'],
        ['write its tables', `INSERT INTO settings (key, value) VALUES ('theme', '"dark"')`],
        ['append to the activity log', `INSERT INTO activity_log (action) VALUES ('login')`],
        [
          'make a schema with a table',
          'CREATE SCHEMA shop CREATE TABLE carts (id int)',
          'DATABASE',
        ],
        ['make temporary tables', 'CREATE TEMPORARY TABLE scratch (id int)'],
        ['alter a table of the migrations', 'ALTER TABLE settings ADD COLUMN note text'],
        ['index a table of the migrations', 'CREATE INDEX ON activity_log (created_at)'],
        ['drop a table of the migrations', 'DROP TABLE activity_log'],
        ['make functions', `CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'`],
        [
          'make types and views',
          'CREATE TYPE mood AS ENUM (); CREATE VIEW seen AS SELECT 1 AS one',
        ],
        ['alter the schema public', `COMMENT ON SCHEMA public IS 'ours'`, 'DATABASE'],
      ].filter(([, , only = isolation]) => only === isolation),
    )('%s', async (_name, sql) => {
      await run(sql);
    });

    test('own all that is in its place', async () => {
      await run('CREATE TABLE IF NOT EXISTS own (id serial PRIMARY KEY)');
      const { rows } = await run(
        `SELECT DISTINCT relowner::regrole::text AS owner FROM pg_class c
       JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE nspname IN (current_schema(), 'shop')
       UNION SELECT nspowner::regrole::text FROM pg_namespace
       WHERE nspname = 'public' AND nspname = current_schema()`,
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
      [
        'lift it as its login role either',
        () => `RESET ROLE; ALTER ROLE "${names.login}" CONNECTION LIMIT 1000`,
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

  describe.runIf(isolation === 'SCHEMA')('a tenant of a shared database may not', () => {
    beforeAll(async () => {
      await asTenant(world, other.tenant.id, (client) =>
        client.query(`SELECT lo_from_bytea(424242, 'theirs')`),
      );
    });

    test.each<[string, () => string, code?: string]>([
      ['read another tenant’s tables', () => `SELECT FROM "${names.otherSchema}".settings`],
      ['write another tenant’s tables', () => `DELETE FROM "${names.otherSchema}".settings`],
      ['lock another tenant’s tables', () => `BEGIN; LOCK TABLE "${names.otherSchema}".settings`],
      ['make tables in another’s schema', () => `CREATE TABLE "${names.otherSchema}".mine ()`],
      [
        'make a view of another’s tables',
        () => `CREATE VIEW spy AS SELECT * FROM "${names.otherSchema}".settings`,
      ],
      [
        'refer to another’s tables',
        () => `CREATE TABLE spy (key text REFERENCES "${names.otherSchema}".settings)`,
      ],
      [
        'work in another’s schema by search_path',
        () => `SET search_path = "${names.otherSchema}"; CREATE TABLE mine ()`,
        '3F000',
      ],
      ['move its tables to another', () => `ALTER TABLE own SET SCHEMA "${names.otherSchema}"`],
      ['rename another’s schema', () => `ALTER SCHEMA "${names.otherSchema}" RENAME TO mine`],
      ['drop another’s schema', () => `DROP SCHEMA "${names.otherSchema}" CASCADE`],
      ['make tables in public', () => 'CREATE TABLE public.mine ()'],
      [
        'make functions in public',
        () => `CREATE FUNCTION public.f() RETURNS int AS 'SELECT 1' LANGUAGE sql`,
      ],
      ['make schemas', () => 'CREATE SCHEMA more'],
      ['make extensions', () => 'CREATE EXTENSION pgcrypto'],
      ['make publications', () => 'CREATE PUBLICATION p FOR ALL TABLES'],
      ['make foreign data wrappers', () => 'CREATE FOREIGN DATA WRAPPER w'],
      ['make event triggers', () => 'CREATE EVENT TRIGGER e ON sql_drop EXECUTE FUNCTION own()'],
      ['rename its schema', () => `ALTER SCHEMA "${names.schema}" RENAME TO mine`],
      ['drop its schema', () => `DROP SCHEMA "${names.schema}" CASCADE`],
      ['own its schema', () => `ALTER SCHEMA "${names.schema}" OWNER TO "${names.owner}"`],
      ['forge its schema’s marker', () => `COMMENT ON SCHEMA "${names.schema}" IS 'mine'`],
      ['forge its database’s marker', () => `COMMENT ON DATABASE "${names.database}" IS 'mine'`],
      ['read large objects of others', () => 'SELECT lo_get(424242)'],
      [
        'change how another logs in',
        () => `ALTER ROLE "${names.otherLogin}" SET search_path = public`,
      ],
      [
        'set parameters of its login in the database',
        () =>
          `ALTER ROLE "${names.otherLogin}" IN DATABASE "${names.database}" SET work_mem = '1GB'`,
      ],
      ['change what everybody gets', () => `ALTER ROLE ALL SET work_mem = '1GB'`],
      ['change the server’s settings', () => `ALTER SYSTEM SET work_mem = '1GB'`],
      [
        'take the lock on its own role',
        () => `RESET ROLE; COMMENT ON ROLE "${names.owner}" IS 'x'`,
      ],
      ['out of its login role either', () => `RESET ROLE; CREATE TABLE public.mine ()`],
      ['as its login, drop its owner role', () => `RESET ROLE; DROP ROLE "${names.owner}"`],
    ])('%s', async (_name, sql, code = '42501') => {
      expect(await refusal(run(sql()))).toBe(code);
    });

    test.each<[string, () => string]>([
      ['open its schema to everybody', () => `GRANT ALL ON SCHEMA "${names.schema}" TO PUBLIC`],
      [
        'open its schema to another',
        () => `GRANT USAGE ON SCHEMA "${names.schema}" TO "${names.otherOwner}"`,
      ],
      [
        'let itself into another’s schema',
        () => `GRANT ALL ON SCHEMA "${names.otherSchema}" TO "${names.owner}"`,
      ],
    ])('%s, even where the server only warns', async (_name, sql) => {
      const acl = () =>
        onServer(withDatabase(inject('serverUrl'), names.database), async (client) => {
          const { rows } = await client.query(
            'SELECT nspname, nspacl::text FROM pg_namespace WHERE nspname = ANY ($1) ORDER BY 1',
            [[names.schema, names.otherSchema]],
          );
          return rows as object[];
        });
      const before = await acl();
      await run(sql()).catch(() => undefined);
      expect(await acl()).toEqual(before);
    });
  });
});
