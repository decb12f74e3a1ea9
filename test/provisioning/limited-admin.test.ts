import pg from 'pg';
import { afterAll, afterEach, beforeAll, expect, inject, test } from 'vitest';
import { onServer, withDatabase } from '../control-template.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { runningStepsOf, scriptFailpoints } from './failpoints.ts';
import { isolations } from './isolations.ts';
import { makeMigrationFolder } from './migration-folders.ts';
import { asTenant, connectionString, createTenant, makeTenant } from './tenants.ts';
import { endedEvents, expectNothingLeft, expectOrderly, tracesOf } from './traces.ts';

// As on managed servers: the admin may make databases and roles, and owns the control plane.
const failpoints = scriptFailpoints();
let world: World;
let gateway: TestGateway;
let admin: string;

beforeAll(async () => {
  world = await createWorld({ admin: 'limited' });
  gateway = await world.start({ failpoints });
  admin = new URL(world.controlUrl).username;
});
afterEach(async () => {
  failpoints.clear();
  expect(await memberships()).toEqual([]);
});
afterAll(() => world.close());

/**
 * Memberships of the admin that weigh on every later privilege check. Those that PostgreSQL 16 and
 * newer give to the maker of a role, to administrate it alone, do not.
 */
async function memberships(): Promise<string[]> {
  const rows = await world.query<{ role: string }>(
    `SELECT g.rolname AS role FROM pg_auth_members m
     JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles u ON u.oid = m.member
     WHERE u.rolname = $1
       AND (coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, true)
         OR coalesce((to_jsonb(m) ->> 'set_option')::boolean, true))`,
    [admin],
  );
  return rows.map((row) => row.role);
}

test('the admin of this suite is what it should be', async () => {
  const rows = await world.query(
    `SELECT rolsuper, rolcreatedb, rolcreaterole, pg_has_role(oid, 'pg_signal_backend', 'USAGE') AS
     signals FROM pg_roles WHERE rolname = $1`,
    [admin],
  );
  expect(rows).toEqual([
    { rolsuper: false, rolcreatedb: true, rolcreaterole: true, signals: false },
  ]);
});

test.each([
  { databaseNaming: 'TENANT_ID' },
  { databaseNaming: 'SLUG' },
  { isolation: 'SCHEMA' },
  { isolation: 'SCHEMA', schemaName: 'Mixed_Case' },
])('a tenant is made, %j', async (input) => {
  const made = await makeTenant(gateway, { name: 'Limited', ...input });
  const { database } = made.tenant;
  const [row] = await world.query(
    `SELECT datdba::regrole::text AS owner, EXISTS (
         SELECT FROM aclexplode(datacl) acl WHERE acl.grantee = 0) AS public
       FROM pg_database WHERE datname = $1`,
    [database.databaseName],
  );
  expect(row).toEqual({ owner: admin, public: false });
  const { rows } = await asTenant(world, made.tenant.id, (client) =>
    client.query(
      `SELECT current_user::text AS "worksAs", tableowner::text AS owner FROM pg_tables
         WHERE tablename = 'settings' AND schemaname = current_schema()`,
    ),
  );
  const owner = `own_${made.tenant.id.replaceAll('-', '_')}`;
  expect(rows).toEqual([{ worksAs: owner, owner }]);
});

test('a schema belongs to the admin, and is its tenant’s to work in', async () => {
  const { tenant } = await makeTenant(gateway, { name: 'Owned', isolation: 'SCHEMA' });
  const rows = await onServer(
    withDatabase(inject('serverUrl'), world.sharedDatabase),
    async (client) =>
      client.query(
        `SELECT nspowner::regrole::text AS owner,
                ARRAY(SELECT format('%s %s', coalesce(rolname, 'PUBLIC'), privilege_type)
                      FROM aclexplode(nspacl) LEFT JOIN pg_roles r ON r.oid = grantee
                      WHERE grantee <> nspowner ORDER BY 1) AS rights
         FROM pg_namespace WHERE nspname = $1`,
        [tenant.database.schemaName],
      ),
  );
  const owner = `own_${tenant.id.replaceAll('-', '_')}`;
  expect(rows.rows).toEqual([{ owner: admin, rights: [`${owner} CREATE`, `${owner} USAGE`] }]);
});

test.each(isolations)('$isolation: many are made at once', async ({ isolation }) => {
  const payloads = await Promise.all(
    Array.from({ length: 12 }, (_, index) =>
      createTenant(gateway, { name: `Crowd ${index}`, isolation }),
    ),
  );
  expect(payloads.flatMap((payload) => payload.userErrors)).toEqual([]);
});

test.each(
  isolations.flatMap(({ isolation, named }) =>
    runningStepsOf(isolation).map((step) => ({ isolation, named, step })),
  ),
)('$isolation: a failure in $step is undone', async ({ isolation, named, step }) => {
  failpoints.fail(`${step}:before`);
  const slug = `limited-${isolation.toLowerCase()}-${step.replaceAll('_', '-')}`;
  const input = { name: step, slug, ...named };
  const payload = await createTenant(gateway, input);
  expect(payload.userErrors).toMatchObject([{ code: 'PROVISIONING_FAILED' }]);
  await expectNothingLeft(world, gateway, payload.operation!.id);
  expectOrderly(await endedEvents(world, payload.operation!.id));
  failpoints.clear();
  await makeTenant(gateway, input);
});

test.each(isolations)(
  '$isolation: an undo ends the sessions of the tenant',
  async ({ isolation }) => {
    const sessions: pg.Client[] = [];
    failpoints.at('activate:before', async () => {
      const [pending] = await world.query<{ id: string }>(
        `SELECT tenant_id AS id FROM control_plane.tenant_databases WHERE status = 'PENDING'`,
      );
      // What is not sealed yet, the tenant cannot know: the role gets another password for this.
      const [row] = await world.query<{ login: string; database: string }>(
        `SELECT login_role AS login, database_name AS database FROM control_plane.tenant_databases
       WHERE tenant_id = $1`,
        [pending!.id],
      );
      await world.query(`ALTER ROLE "${row!.login}" PASSWORD 'known'`);
      const url = new URL(world.controlUrl);
      url.username = row!.login;
      url.password = 'known';
      url.pathname = `/${row!.database}`;
      for (const client of [new pg.Client(url.href), new pg.Client(url.href)]) {
        client.on('error', () => undefined);
        await client.connect();
        sessions.push(client);
      }
      await sessions[0]!.query('BEGIN; CREATE TABLE held (id int)');
      throw new Error('failpoint');
    });
    const payload = await createTenant(gateway, { name: 'In session', isolation });
    expect(payload.userErrors).toMatchObject([{ code: 'PROVISIONING_FAILED' }]);
    await expectNothingLeft(world, gateway, payload.operation!.id);
    expect(sessions).toHaveLength(2);
    for (const session of sessions) {
      await expect(session.query('SELECT 1')).rejects.toThrow();
    }
  },
);

test.each(isolations)(
  '$isolation: a tenant migration that fails is told, and undone',
  async ({ isolation }) => {
    const folder = await makeMigrationFolder();
    await folder.write('001_bad', 'SELECT nonsense');
    const bad = await world.start({ settings: { TENANT_MIGRATIONS_DIR: folder.path } });
    const payload = await createTenant(bad, { name: 'Badly migrated', isolation });
    expect(payload.userErrors[0]?.message).toContain('tenant migration 001_bad failed');
    await expectNothingLeft(world, bad, payload.operation!.id);
    await bad.close();
    await folder.remove();
  },
);

test.each(isolations)(
  '$isolation: a tenant cannot become the admin, nor reach its database',
  async ({ isolation }) => {
    const { tenant, operation } = await makeTenant(gateway, { name: 'Curious', isolation });
    await expect(
      asTenant(world, tenant.id, (client) => client.query(`SET ROLE "${admin}"`)),
    ).rejects.toMatchObject({ code: '42501' });
    const url = new URL(await connectionString(world, tenant.id));
    url.pathname = new URL(world.controlUrl).pathname;
    await expect(new pg.Client(url.href).connect()).rejects.toMatchObject({ code: '42501' });
    expect((await tracesOf(world, operation.id)).roles).toHaveLength(3);
  },
);
