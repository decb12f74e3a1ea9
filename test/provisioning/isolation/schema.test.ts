import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from 'vitest';
import { onServer, withDatabase } from '../../control-template.ts';
import { createWorld, type TestGateway, type World } from '../../harness.ts';
import { scriptFailpoints } from '../failpoints.ts';
import { makeMigrationFolder, requiredTables, type MigrationFolder } from '../migration-folders.ts';
import { asTenant, createTenant, makeTenant, type CreatePayload } from '../tenants.ts';
import { expectNothingLeft } from '../traces.ts';

const failpoints = scriptFailpoints();
let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({ failpoints });
  await makeTenant(gateway, { name: 'Neighbour', isolation: 'SCHEMA', schemaName: 'neighbour' });
});
afterEach(() => failpoints.clear());
afterAll(() => world.close());

/** Runs SQL in the shared database as a superuser. */
function inShared(sql: string) {
  return onServer(withDatabase(inject('serverUrl'), world.sharedDatabase), async (client) => {
    const { rows } = await client.query<Record<string, unknown>>(sql);
    return rows;
  });
}

async function expectUndone(by: TestGateway, payload: CreatePayload, message: string) {
  expect(payload.userErrors).toEqual([
    { code: 'PROVISIONING_FAILED', message: `${message}. Everything was undone.`, field: null },
  ]);
  await expectNothingLeft(world, by, payload.operation!.id);
}

describe('Mutation.createTenant, SCHEMA isolation, names', () => {
  test.each<[string, object, object]>([
    [
      'a schema name in use',
      { schemaName: 'neighbour' },
      {
        code: 'TAKEN',
        message: 'Schema already exists: neighbour',
        field: ['input', 'schemaName'],
      },
    ],
    [
      'a slug that makes a name in use',
      { slug: 'twice-used' },
      {
        code: 'TAKEN',
        message: 'Schema already exists: tenant_twice_used',
        field: ['input', 'schemaName'],
      },
    ],
  ])('refuses %s', async (_what, input, error) => {
    await createTenant(gateway, { name: 'First', slug: 'twice_used', isolation: 'SCHEMA' });
    const payload = await createTenant(gateway, { name: 'x', isolation: 'SCHEMA', ...input });
    expect(payload.userErrors).toEqual([error]);
  });

  test('tells names apart by their case', async () => {
    const { tenant } = await makeTenant(gateway, {
      name: 'Neighbour',
      isolation: 'SCHEMA',
      schemaName: 'Neighbour',
    });
    expect(tenant.database.schemaName).toBe('Neighbour');
  });

  test('keeps a schema of that name that somebody else made', async () => {
    await inShared('CREATE SCHEMA tenant_foreign CREATE TABLE kept ()');
    const payload = await createTenant(gateway, {
      name: 'x',
      slug: 'foreign',
      isolation: 'SCHEMA',
    });
    expect(payload.userErrors[0]?.message).toBe(
      'Step create_schema failed: a schema of this name exists in the shared database and is not ours. Everything was undone.',
    );
    expect(await inShared('SELECT count(*)::int FROM tenant_foreign.kept')).toEqual([{ count: 0 }]);
    await inShared('DROP SCHEMA tenant_foreign CASCADE');
  });

  test('cuts a derived slug so that its name fits behind a long prefix, and refuses a given one', async () => {
    const prefix = `long_${'x'.repeat(26)}_`;
    const long = await world.start({ settings: { TENANT_SCHEMA_PREFIX: prefix } });
    const input = { name: 'n'.repeat(60), isolation: 'SCHEMA' };
    for (const each of [await makeTenant(long, input), await makeTenant(long, input)]) {
      const { schemaName } = each.tenant.database;
      expect(schemaName).toMatch(new RegExp(`^${prefix}n+(_[a-z0-9]{6})?$`));
      expect(schemaName?.length).toBe(63);
    }
    const slug = 's'.repeat(32);
    const refused = await createTenant(long, { ...input, slug });
    expect(refused.userErrors).toEqual([
      {
        code: 'INVALID',
        message: `slug makes the schema name ${prefix}${slug}, which has more than 63 bytes; name a schemaName, or take a shorter slug`,
        field: ['input', 'slug'],
      },
    ]);
    await makeTenant(long, { ...input, slug, schemaName: 'x'.repeat(63) });
    await long.close();
  });
});

describe('a tenant migration that reaches outside of the tenant’s schema', () => {
  let folder: MigrationFolder;
  afterEach(() => folder.remove());
  const outside = 'reaches outside of the tenant’s schema; migrations must not name a schema';

  test.each([
    ['makes a table in public', 'CREATE TABLE public.orders ()', outside],
    ['reads a table of public', 'SELECT FROM public.settings', outside],
    ['names another’s schema', 'CREATE TABLE neighbour.orders ()', outside],
    ['names a schema that is not there', 'CREATE TABLE nowhere.orders ()', outside],
    ['makes a schema', 'CREATE SCHEMA more', outside],
    ['makes an extension', 'CREATE EXTENSION pgcrypto', outside],
    ['makes a large object', 'SELECT lo_create(0)', outside],
    ['searches another schema', 'SET search_path = public; CREATE TABLE orders ()', outside],
    ['is wrong by itself', 'SELECT nonsense', 'failed'],
  ])('%s: is named, and all is undone', async (what, sql, deed) => {
    folder = await makeMigrationFolder();
    await folder.write('001_tables', requiredTables);
    const name = `002_${what.replaceAll(/[^a-z]/g, '_')}`;
    await folder.write(name, sql);
    const bad = await world.start({ settings: { TENANT_MIGRATIONS_DIR: folder.path } });
    const payload = await createTenant(bad, { name: 'Outside', isolation: 'SCHEMA' });
    await expectUndone(
      bad,
      payload,
      `Step run_migrations failed: tenant migration ${name} ${deed}`,
    );
    await bad.close();
    expect(await inShared(`SELECT relname FROM pg_class WHERE relname = 'orders'`)).toEqual([]);
    expect(await inShared('SELECT oid FROM pg_largeobject_metadata')).toEqual([]);
  });

  test('is not one that makes types, functions, partitions and default rights in it', async () => {
    folder = await makeMigrationFolder();
    await folder.write('001_tables', requiredTables);
    await folder.write(
      '002_more',
      `CREATE TYPE mood AS ENUM ('fine');
       CREATE TABLE parts (id int GENERATED ALWAYS AS IDENTITY, mood mood) PARTITION BY LIST (mood);
       CREATE TABLE fine PARTITION OF parts FOR VALUES IN ('fine');
       CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
       CREATE TEMPORARY TABLE scratch ();
       ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC`,
    );
    const good = await world.start({
      failpoints,
      settings: { TENANT_MIGRATIONS_DIR: folder.path },
    });
    await makeTenant(good, { name: 'Inside', isolation: 'SCHEMA' });
    failpoints.fail('activate:before');
    const payload = await createTenant(good, { name: 'Undone', isolation: 'SCHEMA' });
    await expectUndone(good, payload, 'Step activate failed');
    await good.close();
  });
});

describe('verify_connection refuses credentials', () => {
  const owner = (id: string) => `own_${id.replaceAll('-', '_')}`;

  test.each<[string, (id: string, login: string) => string, string]>([
    [
      'that reach another tenant’s schema',
      (id) => `GRANT USAGE ON SCHEMA neighbour TO ${owner(id)}`,
      "the credentials open a schema that isn't the tenant's",
    ],
    [
      'that may make things in another tenant’s schema',
      (id) => `GRANT CREATE ON SCHEMA neighbour TO ${owner(id)}`,
      "the credentials open a schema that isn't the tenant's",
    ],
    [
      'that may make things in public',
      (id) => `GRANT CREATE ON SCHEMA public TO ${owner(id)}`,
      "the credentials open a schema that isn't the tenant's",
    ],
    [
      'that may make schemas',
      (id) => `GRANT CREATE ON DATABASE ${world.sharedDatabase} TO ${owner(id)}`,
      'the credentials may make schemas',
    ],
    [
      'that come to another schema',
      (_id, login) => `ALTER ROLE ${login} SET search_path = public`,
      "the credentials don't come to the tenant's schema",
    ],
    [
      'that open the control plane',
      (id) =>
        `GRANT CONNECT ON DATABASE "${new URL(world.controlUrl).pathname.slice(1)}" TO ${owner(id)}`,
      "the credentials open a database that isn't the tenant's",
    ],
    [
      'that do not see the required tables',
      () => `DROP TABLE tenant_verified.settings`,
      'required tables are missing: settings',
    ],
  ])('%s', async (_what, sql, problem) => {
    failpoints.at('verify_connection:before', async () => {
      const [row] = await world.query<{ id: string; login: string }>(
        `SELECT tenant_id AS id, login_role AS login FROM control_plane.tenant_databases
         WHERE status = 'PENDING'`,
      );
      await inShared(sql(row!.id, row!.login));
    });
    const payload = await createTenant(gateway, {
      name: 'Verified',
      slug: 'verified',
      isolation: 'SCHEMA',
    });
    await expectUndone(gateway, payload, `Step verify_connection failed: ${problem}`);
  });
});

test('TenantDatabase tells the schema and its size', async () => {
  const { tenant } = await makeTenant(gateway, { name: 'Sized', isolation: 'SCHEMA' });
  const size = async () => {
    const answer = await gateway.graphql<{
      tenant: { isolation: string; database: { schemaName: string; sizeBytes: number } };
    }>(`query ($id: ID!) { tenant(id: $id) { isolation database { schemaName sizeBytes } } }`, {
      id: tenant.id,
    });
    expect(answer.tenant).toMatchObject({
      isolation: 'SCHEMA',
      database: { schemaName: 'tenant_sized' },
    });
    return answer.tenant.database.sizeBytes;
  };
  const before = await size();
  expect(before).toBeGreaterThan(0);
  await asTenant(world, tenant.id, (client) =>
    client.query(
      `INSERT INTO settings (key, value) SELECT n::text, to_jsonb(repeat(md5(n::text), 30))
       FROM generate_series(1, 1000) AS n`,
    ),
  );
  expect(await size()).toBeGreaterThan(before + 900_000);
});
