import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { SettingError } from '../../src/errors.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { makeMigrationFolder, requiredTables, type MigrationFolder } from './migration-folders.ts';
import { asTenant, createTenant, makeTenant } from './tenants.ts';

let world: World;
let folder: MigrationFolder;

beforeAll(async () => {
  world = await createWorld();
});
beforeEach(async () => {
  folder = await makeMigrationFolder();
  await folder.write('001_tables', requiredTables);
});
afterEach(async () => {
  await folder.remove();
  await world.query('DELETE FROM control_plane.tenant_migrations');
});
afterAll(() => world.close());

/** As if nobody had used the templates that are there for long. */
const age = (): Promise<unknown> =>
  world.query(`UPDATE control_plane.templates SET used_at = now() - interval '1 hour'`);

async function start(settings: Record<string, string> = {}): Promise<TestGateway> {
  await age();
  return world.start({ settings: { TENANT_MIGRATIONS_DIR: folder.path, ...settings } });
}

interface TemplateRow {
  readonly id: string;
  readonly database: string;
  readonly owner: string;
  readonly version: string | null;
  readonly status: string;
}

function templates(): Promise<TemplateRow[]> {
  return world.query<TemplateRow>(
    `SELECT id, database_name AS database, owner_role AS owner, migration_version AS version, status
     FROM control_plane.templates ORDER BY created_at`,
  );
}

/** What the server has under a template's names. */
async function onServer({ database, owner }: TemplateRow) {
  const [databases, roles] = await Promise.all([
    world.query<{ open: boolean; template: boolean; marker: string; public: boolean }>(
      `SELECT datallowconn AS open, datistemplate AS template,
              shobj_description(oid, 'pg_database') AS marker,
              EXISTS (SELECT FROM aclexplode(datacl) acl WHERE acl.grantee = 0) AS public
       FROM pg_database WHERE datname = $1`,
      [database],
    ),
    world.query<{ login: boolean }>(
      'SELECT rolcanlogin AS login FROM pg_roles WHERE rolname = $1',
      [owner],
    ),
  ]);
  return { databases, roles };
}

describe('the template', () => {
  test('is smaller than what it was made from, for all that is in it', async () => {
    await start();
    const [size] = await world.query<{ smaller: boolean }>(
      `SELECT pg_database_size($1) < pg_database_size('template0') AS smaller`,
      [(await templates()).at(-1)!.database],
    );
    expect(size?.smaller).toBe(true);
  });

  test('is there once the gateway listens: closed, marked, and its owner cannot log in', async () => {
    const gateway = await start();
    const [template, ...others] = await templates();
    expect(others).toEqual([]);
    expect(template).toMatchObject({ version: '001_tables', status: 'READY' });
    expect(await onServer(template!)).toEqual({
      databases: [
        {
          open: false,
          template: true,
          marker: expect.stringContaining(`tenantry:1:template:${template!.id}:`) as string,
          public: false,
        },
      ],
      roles: [{ login: false }],
    });
    await gateway.close();
  });

  test('is built once for one content, however many instances start', async () => {
    await folder.write('002_more', 'CREATE TABLE more ()');
    const gateways = await Promise.all([start(), start(), start()]);
    const built = await templates();
    expect(built).toHaveLength(1);
    await Promise.all(gateways.map((gateway) => gateway.close()));
    const later = await start();
    expect(await templates()).toEqual(built);
    await makeTenant(later, { name: 'From the same' });
    await later.close();
  });

  test('is replaced when a migration is added; the old one goes with its role', async () => {
    const before = await start();
    const [old] = await templates();
    await before.close();
    await folder.write('002_more', 'CREATE TABLE more ()');
    const after = await start();
    const [current, ...others] = await templates();
    expect(others).toEqual([]);
    expect(current).toMatchObject({ version: '002_more', status: 'READY' });
    expect(current!.id).not.toBe(old!.id);
    expect(await onServer(old!)).toEqual({ databases: [], roles: [] });
    const made = await makeTenant(after, { name: 'Newer' });
    expect(made.tenant.database.migrationVersion).toBe('002_more');
    await after.close();
  });

  test('is left alone by an instance with other migrations, while somebody uses it', async () => {
    const older = await start();
    const [used] = await templates();
    const newerFolder = await makeMigrationFolder();
    await newerFolder.write('001_tables', requiredTables);
    await newerFolder.write('002_other', 'CREATE TABLE other ()');
    const settings = { TENANT_MIGRATIONS_DIR: newerFolder.path };
    const newer = await world.start({ settings });
    expect((await templates()).map((row) => row.id)).toContain(used!.id);
    for (const [gateway, version] of [
      [older, '001_tables'],
      [newer, '002_other'],
      [older, '001_tables'],
    ] as const) {
      const made = await makeTenant(gateway, { name: 'Side by side' });
      expect(made.tenant.database.migrationVersion).toBe(version);
    }
    expect(await templates()).toHaveLength(2);
    await Promise.all([older.close(), newer.close(), newerFolder.remove()]);
  });

  test('is built anew by an instance whose template another one replaced', async () => {
    const older = await start();
    const newerFolder = await makeMigrationFolder();
    await newerFolder.write('001_tables', requiredTables);
    await newerFolder.write('002_more', 'CREATE TABLE more ()');
    const newer = await start({ TENANT_MIGRATIONS_DIR: newerFolder.path });
    const [replaced] = await templates();
    await age();
    const made = await makeTenant(older, { name: 'During the rollout' });
    expect(made.tenant.database.migrationVersion).toBe('001_tables');
    expect((await templates()).map((row) => row.id)).not.toContain(replaced!.id);
    const again = await makeTenant(newer, { name: 'And after' });
    expect(again.tenant.database.migrationVersion).toBe('002_more');
    await Promise.all([older.close(), newer.close(), newerFolder.remove()]);
  });

  test('is built anew when somebody dropped it, and leaves no role behind', async () => {
    const gateway = await start();
    const [dropped] = await templates();
    await world.query(`ALTER DATABASE "${dropped!.database}" IS_TEMPLATE false`);
    await world.query(`DROP DATABASE "${dropped!.database}"`);
    await makeTenant(gateway, { name: 'All the same' });
    const [current] = await templates();
    expect(current!.id).not.toBe(dropped!.id);
    expect(await onServer(dropped!)).toEqual({ databases: [], roles: [] });
    await gateway.close();
  });

  test('half built by an instance that died is dropped before it is built again', async () => {
    const gateway = await start();
    const [template] = await templates();
    await gateway.close();
    await world.query(`UPDATE control_plane.templates SET status = 'BUILDING'`);
    const later = await start();
    const [current, ...others] = await templates();
    expect(others).toEqual([]);
    expect(current).toMatchObject({ status: 'READY' });
    expect(await onServer(template!)).toEqual({ databases: [], roles: [] });
    await later.close();
  });

  test('with the fewest connections that are allowed', async () => {
    const gateway = await start({ CLUSTER_CONNECTIONS_MAX: '3', DB_POOL_MAX: '1' });
    const made = await Promise.all(
      ['A', 'B', 'C', 'D'].map((name) => createTenant(gateway, { name })),
    );
    expect(made.map((payload) => payload.tenant?.status)).toEqual(Array(4).fill('ACTIVE'));
    await gateway.close();
  });
});

describe('a tenant', () => {
  test('is copied: no migration runs while it is made', async () => {
    const gateway = await start();
    const { tenant } = await makeTenant(gateway, { name: 'Copied' });
    const { rows } = await asTenant(world, tenant.id, (client) =>
      client.query<{ at: Date; owner: string }>(
        `SELECT max(migration_time) AS at,
                (SELECT relowner::regrole::text FROM pg_class WHERE relname = 'settings') AS owner
         FROM knex_migrations`,
      ),
    );
    const [row] = await world.query<{ before: boolean }>(
      'SELECT $2::timestamptz < created_at AS before FROM control_plane.tenants WHERE id = $1',
      [tenant.id, rows[0]!.at],
    );
    expect(row).toEqual({ before: true });
    expect(rows[0]!.owner).toBe(`own_${tenant.id.replaceAll('-', '_')}`);
    await gateway.close();
  });

  test('may change what it got: everything in the template is its own', async () => {
    await folder.write(
      '002_everything',
      `CREATE SCHEMA billing; CREATE TABLE billing.invoices (id serial PRIMARY KEY);
       CREATE TYPE mood AS ENUM ('fine'); CREATE VIEW moods AS SELECT 'fine'::mood AS mood;
       CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
       CREATE SEQUENCE numbers`,
    );
    const gateway = await start();
    const { tenant } = await makeTenant(gateway, { name: 'Owner of all' });
    await asTenant(world, tenant.id, (client) =>
      client.query(
        `DROP SCHEMA billing CASCADE; DROP VIEW moods; ALTER TYPE mood ADD VALUE 'better';
         DROP FUNCTION one(); ALTER SEQUENCE numbers RESTART; ALTER TABLE settings RENAME TO s`,
      ),
    );
    await gateway.close();
  });
});

describe('a gateway does not start', () => {
  test('when a migration was changed after it was applied, and names it', async () => {
    await (await start()).close();
    await folder.write('001_tables', `${requiredTables}; CREATE TABLE added ()`);
    const error: unknown = await start().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(SettingError);
    expect(String(error)).toContain('TENANT_MIGRATIONS_DIR: migration 001_tables was changed');
  });

  test.each<[string, string, string, RegExp]>([
    ['does not load', '002_broken.mjs', 'export const up = (', /002_broken does not load/],
    ['is none', '002_none.mjs', 'export const down = 1;', /002_none has no function up/],
    [
      'leaves its transaction',
      '002_apart.mjs',
      'export const config = { transaction: false }; export const up = () => {};',
      /002_apart sets transaction: false/,
    ],
  ])('when a migration %s', async (_what, file, text, message) => {
    await folder.writeText(file, text);
    await expect(start()).rejects.toThrow(message);
    await expect(start()).rejects.toThrow(SettingError);
  });
});
