import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { asTenant, makeTenant, refusal, type Made } from '../provisioning/tenants.ts';

describe.each(['superuser', 'limited'] as const)('the group of all tenants, as a %s', (admin) => {
  let world: World;
  let gateway: TestGateway;
  let made: Made;
  let group: string;
  let version: number;

  beforeAll(async () => {
    world = await createWorld({ admin });
    gateway = await world.start({ settings: { RECONCILE_INTERVAL_SECONDS: '1' } });
    made = await makeTenant(gateway, { name: 'Works as all', isolation: 'SCHEMA' });
    const [row] = await world.query<{ group: string; version: number }>(
      `SELECT group_role AS group, current_setting('server_version_num')::int / 10000 AS version
       FROM control_plane.shared_databases`,
    );
    ({ group, version } = row!);
  });
  afterAll(() => world.close());

  const ownedByGroup = () =>
    world.query(
      `SELECT d.classid::regclass::text AS class FROM pg_shdepend d
       WHERE d.deptype = 'o' AND d.refobjid = $1::regrole`,
      [group],
    );

  test('owns nothing: a member cannot work as it, or what it leaves is dropped', async () => {
    const attempt = asTenant(world, made.tenant.id, (client) =>
      client.query(`
        CREATE TABLE mine (id int);
        SET ROLE "${group}";
        ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC;
        SELECT lo_create(0) FROM generate_series(1, 1200)`),
    );
    if (version >= 16) {
      expect(await refusal(attempt)).toBe('42501');
      expect(await ownedByGroup()).toEqual([]);
      return;
    }
    await attempt;
    await expect.poll(ownedByGroup, { timeout: 20_000 }).toEqual([]);
    // What is the tenant's stays, and all may still connect.
    await asTenant(world, made.tenant.id, (client) => client.query('SELECT id FROM mine'));
    await makeTenant(gateway, { name: 'Comes later', isolation: 'SCHEMA' });
    const held = await world.query(
      `SELECT rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
       WHERE m.roleid = $1::regrole AND NOT r.rolname LIKE 'own\\_%' AND $2`,
      [group, admin === 'superuser'],
    );
    expect(held).toEqual([]);
  });
});
