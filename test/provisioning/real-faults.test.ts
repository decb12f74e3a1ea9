import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from 'vitest';
import { onServer, withDatabase } from '../control-template.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { scriptFailpoints } from './failpoints.ts';
import { makeMigrationFolder, type MigrationFolder } from './migration-folders.ts';
import { createTenant, makeTenant } from './tenants.ts';
import { endedEvents, events, expectNothingLeft, expectOrderly } from './traces.ts';

const failpoints = scriptFailpoints();
let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({ failpoints });
});
afterEach(() => failpoints.clear());
afterAll(() => world.close());

/** Creates, and expects a failure that is undone; answers with its message. */
async function expectUndone(by: TestGateway, input: object): Promise<string> {
  const payload = await createTenant(by, input);
  expect(payload).toMatchObject({ tenant: null, apiKey: null });
  expect(payload.userErrors).toMatchObject([{ code: 'PROVISIONING_FAILED', field: null }]);
  expect(payload.operation?.status).toBe('COMPENSATED');
  await expectNothingLeft(world, by, payload.operation!.id);
  expectOrderly(await endedEvents(world, payload.operation!.id));
  return payload.userErrors[0]!.message;
}

describe('a tenant migration that fails', () => {
  let folder: MigrationFolder;
  let bad: TestGateway;

  beforeAll(async () => {
    folder = await makeMigrationFolder();
    await folder.write('001_tables', 'CREATE TABLE settings (); CREATE TABLE activity_log ()');
    await folder.write('002_bad', "INSERT INTO secret_table VALUES ('hunter2')");
    bad = await world.start({ settings: { TENANT_MIGRATIONS_DIR: folder.path } });
  });
  afterAll(async () => {
    await bad.close();
    await folder.remove();
  });

  test('is named to the caller, without its SQL', async () => {
    const input = { name: 'Badly migrated', slug: 'badly-migrated' };
    const message = await expectUndone(bad, input);
    expect(message).toBe(
      'Step run_migrations failed: tenant migration 002_bad failed. Everything was undone.',
    );
    await makeTenant(gateway, input);
  });

  test('is told to the operator at the start already, and leaves no template', async () => {
    expect(bad.logs()).toContain('the tenant migrations fail');
    expect(bad.logs()).toContain('002_bad');
    const [row] = await world.query<{ count: number }>(
      `SELECT count(*)::int AS count FROM control_plane.templates WHERE status <> 'READY'`,
    );
    expect(row?.count).toBe(0);
  });
});

test('a required table that is missing fails verify_connection, by its name', async () => {
  const strict = await world.start({
    settings: { REQUIRED_TENANT_TABLES: 'settings,nope,activity_log,nada' },
  });
  const message = await expectUndone(strict, { name: 'Incomplete' });
  expect(message).toBe(
    'Step verify_connection failed: required tables are missing: nope, nada. Everything was undone.',
  );
  await strict.close();
});

describe('a tenant database that its tenant cannot reach fails', () => {
  const verification = /^Step verify_connection failed(:|\.)/;
  // The session that is verified is opened while the database is made: the fault is there before it.
  test.each<[string, string, RegExp]>([
    ['the login role cannot log in', 'ALTER ROLE %login% NOLOGIN', verification],
    ['the login has another password', "ALTER ROLE %login% PASSWORD 'other'", verification],
    ['it may not connect', 'REVOKE CONNECT ON DATABASE %database% FROM %owner%', verification],
    ['the login role is gone', 'DROP ROLE %login%', verification],
    // Nor does it take the admin's, which hands over what is in it.
    [
      'the database takes no connections',
      'ALTER DATABASE %database% ALLOW_CONNECTIONS false',
      /^Step create_database failed/,
    ],
  ])('%s', async (fault, statement, message) => {
    failpoints.at('create_database:opened', () => onNewest(statement));
    expect(await expectUndone(gateway, { name: fault })).toMatch(message);
  });

  test.each<[string, string, RegExp]>([
    [
      'it opens another database',
      'GRANT CONNECT ON DATABASE postgres TO %login%',
      /open a database/,
    ],
    ['it opens everybody’s', 'GRANT pg_read_all_data TO %login%', /member of a role/],
    ['it may make databases', 'ALTER ROLE %login% CREATEDB', /has CREATEDB/],
    ['it may make roles', 'ALTER ROLE %login% CREATEROLE', /has CREATEROLE/],
    ['it is a superuser', 'ALTER ROLE %login% SUPERUSER', /SUPERUSER|open a database/],
  ])('%s', async (_fault, statement, reason) => {
    failpoints.at('verify_connection:before', () => onNewest(statement));
    const message = await expectUndone(gateway, {
      name: `Faulty: ${_fault}`,
      databaseNaming: 'SLUG',
    });
    expect(message).toMatch(verification);
    expect(message).toMatch(reason);
  });
});

/** Runs SQL on the names of the tenant that is being made. */
async function onNewest(statement: string): Promise<void> {
  const [names] = await world.query<Record<string, string>>(
    `SELECT quote_ident(database_name) AS database, quote_ident(owner_role) AS owner,
            quote_ident(login_role) AS login
     FROM control_plane.tenant_databases WHERE status = 'PENDING'`,
  );
  await world.query(statement.replaceAll(/%(\w+)%/g, (_all, name: string) => names?.[name] ?? ''));
}

describe('a registry that refuses the last update', () => {
  const conditions = {
    tenants: "NEW.status = 'ACTIVE'",
    tenant_databases: "NEW.status = 'PROVISIONED'",
    operations: "NEW.status = 'SUCCEEDED'",
    api_keys: 'NEW.activated_at IS NOT NULL',
  };
  afterEach(() => world.query('DROP FUNCTION IF EXISTS control_plane.refuse() CASCADE'));

  test.each(Object.entries(conditions))('%s: all is undone', async (table, condition) => {
    await world.query(
      `CREATE FUNCTION control_plane.refuse() RETURNS trigger LANGUAGE plpgsql AS
       $$ BEGIN RAISE EXCEPTION 'refused, with a secret: swordfish'; END $$;
       CREATE TRIGGER refuse BEFORE UPDATE ON control_plane.${table} FOR EACH ROW
         WHEN (${condition}) EXECUTE FUNCTION control_plane.refuse()`,
    );
    const message = await expectUndone(gateway, { name: `Refused by ${table}` });
    expect(message).toBe('Step activate failed. Everything was undone.');
  });

  test.each(['tenants', 'tenant_databases'] as const)(
    '%s: also when it just does nothing',
    async (table) => {
      await world.query(
        `CREATE FUNCTION control_plane.refuse() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RETURN NULL; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON control_plane.${table} FOR EACH ROW
           WHEN (${conditions[table]}) EXECUTE FUNCTION control_plane.refuse()`,
      );
      expect(await expectUndone(gateway, { name: `Ignored by ${table}` })).toMatch(/activate/);
    },
  );
});

describe('a foreign database of the name that is wanted', () => {
  const database = 'dbtools_tenant_foreign-one';
  beforeAll(() => world.query(`CREATE DATABASE "${database}"`));
  afterAll(() => world.query(`DROP DATABASE "${database}"`));

  test('is not touched, and the tenant is undone', async () => {
    await onServer(withDatabase(inject('serverUrl'), database), (client) =>
      client.query('CREATE TABLE precious AS SELECT 42 AS answer'),
    );
    const input = { name: 'Foreign', slug: 'foreign-one', databaseNaming: 'SLUG' };
    const payload = await createTenant(gateway, input);
    expect(payload.userErrors).toMatchObject([
      {
        code: 'PROVISIONING_FAILED',
        message:
          'Step create_database failed: a database of this name exists on the cluster and is not ours. Everything was undone.',
      },
    ]);
    expect((await world.leftovers()).databases).toContain(database);
    const { rows } = await onServer(withDatabase(inject('serverUrl'), database), (client) =>
      client.query('SELECT answer FROM precious'),
    );
    expect(rows).toEqual([{ answer: 42 }]);
    await makeTenant(gateway, { ...input, databaseNaming: 'TENANT_ID' });
  });
});

test('a session on the template delays a create (55006), which then succeeds', async () => {
  const [template] = await world.query<{ name: string }>(
    `SELECT database_name AS name FROM control_plane.templates ORDER BY created_at DESC LIMIT 1`,
  );
  await world.query(`ALTER DATABASE "${template!.name}" ALLOW_CONNECTIONS true`);
  const session = new pg.Client(withDatabase(inject('serverUrl'), template!.name));
  await session.connect();
  const creating = createTenant(gateway, { name: 'Delayed', wait: false });
  const { id } = (await creating).operation!;
  await expect
    .poll(() => events(world, id), { timeout: 30_000 })
    .toContainEqual(expect.objectContaining({ step: 'create_database', status: 'RETRYING' }));
  await session.end();
  await world.query(`ALTER DATABASE "${template!.name}" ALLOW_CONNECTIONS false`);
  const rows = await endedEvents(world, id);
  expectOrderly(rows);
  expect(rows.at(-1)).toMatchObject({ operationStatus: 'SUCCEEDED' });
});
