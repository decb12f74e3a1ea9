import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from 'vitest';
import { onServer, withDatabase } from '../control-template.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { asTenant, createTenant, makeTenant } from './tenants.ts';
import { expectNothingLeft } from './traces.ts';

let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
});
afterAll(() => world.close());

const refusedMessage =
  'Step create_schema failed: the cluster has a database of the name in SHARED_TENANT_DATABASE that this control plane did not make; an operator has to choose another name. Everything was undone.';

async function markerOf(name: string): Promise<string | null | undefined> {
  const [row] = await world.query<{ marker: string | null }>(
    `SELECT shobj_description(oid, 'pg_database') AS marker FROM pg_database WHERE datname = $1`,
    [name],
  );
  return row?.marker;
}

describe('the shared tenant database', () => {
  test('is made when the first tenant needs it, once by all instances', async () => {
    const second = await world.start();
    expect(await markerOf(world.sharedDatabase)).toBeUndefined();
    const made = await Promise.all(
      Array.from({ length: 8 }, (_, index) =>
        makeTenant(index % 2 === 0 ? gateway : second, { name: 'First', isolation: 'SCHEMA' }),
      ),
    );
    for (const { tenant } of made) expect(tenant.database.databaseName).toBe(world.sharedDatabase);
    const [row] = await world.query<{ id: string }>(
      'SELECT id FROM control_plane.shared_databases',
    );
    expect(await markerOf(world.sharedDatabase)).toBe(`tenantry:1:shared:${row!.id}`);
    expect(await markerOf(`shd_${row!.id.replaceAll('-', '_')}`)).toBeUndefined();
    await second.close();
  });

  test('is closed to PUBLIC, and so is its schema public', async () => {
    const rights = await onServer(
      withDatabase(inject('serverUrl'), world.sharedDatabase),
      (client) =>
        client.query(
          `SELECT acl.privilege_type FROM pg_database, aclexplode(datacl) AS acl
           WHERE datname = current_database() AND acl.grantee = 0
           UNION ALL
           SELECT acl.privilege_type FROM pg_namespace,
             aclexplode(coalesce(nspacl, acldefault('n', nspowner))) AS acl
           WHERE nspname = 'public' AND acl.grantee = 0`,
        ),
    );
    expect(rights.rows).toEqual([]);
  });

  test('that an instance began to make before it died is finished by the next', async () => {
    const name = `${world.sharedDatabase}_2`;
    const [row] = await world.query<{ id: string }>(
      `INSERT INTO control_plane.shared_databases (cluster, database_name) VALUES ('default', $1)
       RETURNING id`,
      [name],
    );
    const begun = `shd_${row!.id.replaceAll('-', '_')}`;
    await world.query(`CREATE DATABASE "${begun}" TEMPLATE template0 ALLOW_CONNECTIONS false`);
    const next = await world.start({ settings: { SHARED_TENANT_DATABASE: name } });
    const { tenant } = await makeTenant(next, { name: 'Next', isolation: 'SCHEMA' });
    expect(tenant.database.databaseName).toBe(name);
    expect(await markerOf(begun)).toBeUndefined();
    await next.close();
  });

  test('may be another one from now on: who is there already stays', async () => {
    const [old] = await world.query<{ id: string }>(
      `SELECT tenant_id AS id FROM control_plane.tenant_databases WHERE database_name = $1 LIMIT 1`,
      [world.sharedDatabase],
    );
    const name = `${world.sharedDatabase}_3`;
    const changed = await world.start({ settings: { SHARED_TENANT_DATABASE: name } });
    const { tenant } = await makeTenant(changed, { name: 'Moved on', isolation: 'SCHEMA' });
    expect(tenant.database.databaseName).toBe(name);
    const { rows } = await asTenant(world, old!.id, (client) =>
      client.query('SELECT current_database() AS name'),
    );
    expect(rows).toEqual([{ name: world.sharedDatabase }]);
    await changed.close();
  });
});

describe('a database of that name that is not ours', () => {
  let foreign: string;
  afterEach(() => world.query(`DROP DATABASE IF EXISTS "${foreign}"`));

  test.each([
    ['has no marker', null],
    ['is another control plane’s', 'tenantry:1:shared:00000000-0000-4000-8000-000000000000'],
    ['is a tenant’s', 'tenantry:1:tenant:x:y'],
  ])('which %s: is left alone, and told', async (_what, marker) => {
    foreign = `${world.sharedDatabase}_foreign`;
    await world.query(`CREATE DATABASE "${foreign}"`);
    // Other suites look for open databases that carry a marker.
    await world.query(`REVOKE ALL ON DATABASE "${foreign}" FROM PUBLIC`);
    if (marker !== null) await world.query(`COMMENT ON DATABASE "${foreign}" IS '${marker}'`);
    const refused = await world.start({ settings: { SHARED_TENANT_DATABASE: foreign } });
    const payload = await createTenant(refused, { name: 'Refused', isolation: 'SCHEMA' });
    expect(payload.userErrors[0]?.message).toBe(refusedMessage);
    await expectNothingLeft(world, refused, payload.operation!.id);
    expect(await markerOf(foreign)).toBe(marker);
    // Mended by the operator, it works without a restart.
    await world.query(`DROP DATABASE "${foreign}"`);
    await makeTenant(refused, { name: 'Accepted', isolation: 'SCHEMA' });
    await refused.close();
    await world.query(`DROP DATABASE "${foreign}" WITH (FORCE)`);
  });

  test('two control planes that race for one name: one gets it', async () => {
    foreign = `${world.sharedDatabase}_raced`;
    const settings = { SHARED_TENANT_DATABASE: foreign };
    const rival = await createWorld();
    try {
      const gateways = await Promise.all([world.start({ settings }), rival.start({ settings })]);
      const payloads = await Promise.all(
        gateways.map((each) => createTenant(each, { name: 'Racer', isolation: 'SCHEMA' })),
      );
      const messages = payloads.flatMap(({ userErrors }) => userErrors.map((each) => each.message));
      expect(messages).toEqual([refusedMessage]);
      expect(payloads.filter(({ tenant }) => tenant?.status === 'ACTIVE')).toHaveLength(1);
      await gateways[0].close();
    } finally {
      await rival.close();
      await world.query(`DROP DATABASE IF EXISTS "${foreign}" WITH (FORCE)`);
    }
  });
});

test('SHARED_TENANT_DATABASE that is the control plane’s is refused at the start', async () => {
  const control = new URL(world.controlUrl).pathname.slice(1);
  await expect(
    world.start({ settings: { SHARED_TENANT_DATABASE: control } }),
  ).rejects.toMatchObject({ code: 'SETTING', setting: 'SHARED_TENANT_DATABASE' });
});
