import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type GatewayOptions, type TestGateway, type World } from '../harness.ts';
import { pointsOf, scriptFailpoints } from './failpoints.ts';
import { makeMigrationFolder } from './migration-folders.ts';
import { asTenant, createTenant, makeTenant, markerOf } from './tenants.ts';
import { expectNothingLeft, markedSchemas, tracesOf } from './traces.ts';
import { isolations } from './isolations.ts';

interface StandbyRow {
  readonly id: string;
  readonly status: string;
  readonly databaseName: string;
  readonly migrationVersion: string | null;
}

const failpoints = scriptFailpoints();

const cases = isolations.flatMap((each) =>
  (['superuser', 'limited'] as const).map((admin) => ({ ...each, admin })),
);

describe.each(cases)(
  '$isolation standbys, made by a $admin',
  ({ admin, isolation, named, placeOf }) => {
    let world: World;

    beforeAll(async () => {
      world = await createWorld({ admin });
    });
    afterEach(() => failpoints.clear());
    afterAll(() => world.close());

    async function start(standbys: number, options: GatewayOptions = {}): Promise<TestGateway> {
      const setting = isolation === 'DATABASE' ? 'STANDBY_DATABASES' : 'STANDBY_SCHEMAS';
      const settings = { [setting]: String(standbys), ...options.settings };
      return world.start({ failpoints, ...options, settings });
    }

    function standbys(): Promise<StandbyRow[]> {
      return world.query<StandbyRow>(
        `SELECT id, status, database_name AS "databaseName", migration_version AS "migrationVersion"
       FROM control_plane.standbys ORDER BY created_at`,
      );
    }

    /** Waits until the pool holds exactly so many, all ready. */
    async function poolOf(count: number): Promise<StandbyRow[]> {
      await expect
        .poll(async () => (await standbys()).map(({ status }) => status), { timeout: 30_000 })
        .toEqual(Array.from({ length: count }, () => 'READY'));
      return standbys();
    }

    /** Databases, schemas and roles of ids, as the server has them. */
    async function existing(ids: readonly string[]): Promise<string[]> {
      const rows = await world.query<{ name: string }>(
        `SELECT datname AS name FROM pg_database
       WHERE EXISTS (SELECT FROM unnest($1::text[]) id
         WHERE starts_with(shobj_description(oid, 'pg_database'), 'tenantry:1:tenant:' || id))
       UNION ALL SELECT rolname FROM pg_roles
       WHERE EXISTS (SELECT FROM unnest($1::text[]) id
         WHERE starts_with(shobj_description(oid, 'pg_authid'), 'tenantry:1:tenant:' || id))`,
        [ids],
      );
      const schemas = (await markedSchemas(world)).filter(({ marker }) =>
        ids.some((id) => marker?.startsWith(`tenantry:1:tenant:${id}`) === true),
      );
      return [...rows, ...schemas].map(({ name }) => name);
    }

    test.each(['opaque', 'chosen'])(
      'Mutation.createTenant takes the oldest for a place of %s name, and it is replaced',
      async (name) => {
        const gateway = await start(2);
        const [oldest] = await poolOf(2);
        const slug = `standby-${name}-${admin}`;
        const { tenant, operation } = await makeTenant(gateway, {
          name: 'From standby',
          ...(name === 'opaque' ? { isolation } : { ...named, slug }),
        });
        expect(tenant.id).toBe(oldest!.id);
        const places = (await tracesOf(world, operation.id)).places;
        expect(places).toHaveLength(1);
        if (name === 'chosen') expect(places).toEqual([placeOf(slug)]);
        expect(tenant.database.migrationVersion).toBe('20250102000001_create_activity_log');
        expect(operation.steps.every(({ status }) => status === 'SUCCEEDED')).toBe(true);
        // Made before anybody asked, and still their markers name this very operation.
        const markers = await world.query<{ marker: string }>(
          `SELECT shobj_description(oid, 'pg_authid') AS marker FROM pg_roles
         JOIN control_plane.tenant_databases ON rolname IN (owner_role, login_role)
         WHERE tenant_id = $1`,
          [tenant.id],
        );
        const marker = await markerOf(world, tenant.id, operation.id);
        expect(markers).toEqual([{ marker }, { marker }]);
        const rows = await asTenant(world, tenant.id, async (client) => {
          await client.query(`INSERT INTO settings (key, value) VALUES ('a', '1')`);
          return (await client.query<object>('SELECT key FROM settings')).rows;
        });
        expect(rows).toHaveLength(1);
        const refilled = await poolOf(2);
        expect(refilled.map(({ id }) => id)).not.toContain(tenant.id);
        await gateway.close();
      },
    );

    test('more creates at once than standbys: all are made, none twice', async () => {
      const gateway = await start(2);
      const pool = await poolOf(2);
      const made = await Promise.all(
        Array.from({ length: 8 }, (_, index) =>
          makeTenant(gateway, { isolation, name: `Rush ${index}` }),
        ),
      );
      const ids = made.map(({ tenant }) => tenant.id);
      expect(new Set(ids).size).toBe(8);
      expect(ids).toEqual(expect.arrayContaining(pool.map(({ id }) => id)));
      await poolOf(2);
      await gateway.close();
    });

    test('a refused create leaves the standbys where they are', async () => {
      const gateway = await start(1);
      await makeTenant(gateway, { isolation, name: 'Taken', slug: `standby-taken-${admin}` });
      const before = await poolOf(1);
      const payload = await createTenant(gateway, {
        isolation,
        name: 'Taken',
        slug: `standby-taken-${admin}`,
      });
      expect(payload.userErrors).toMatchObject([{ code: 'TAKEN' }]);
      expect(await standbys()).toEqual(before);
      await gateway.close();
    });

    describe('a create that took a standby and fails', () => {
      let gateway: TestGateway;
      beforeAll(async () => {
        gateway = await start(1);
      });
      afterAll(() => gateway.close());

      // After `activate` there is nothing left to fail.
      test.each(pointsOf(isolation).filter((point) => point !== 'activate:after'))(
        'at %s leaves nothing of it, and its names can be used at once',
        async (point) => {
          const [standby] = await poolOf(1);
          const input = {
            ...named,
            name: point,
            slug: `at-${point.replaceAll(/[_:]/g, '-')}-${admin}`,
          };
          failpoints.fail(point);
          const payload = await createTenant(gateway, input);
          failpoints.clear();
          expect(payload.userErrors).toMatchObject([{ code: 'PROVISIONING_FAILED' }]);
          await expectNothingLeft(world, gateway, payload.operation!.id);
          expect(await existing([standby!.id])).toEqual([]);
          await makeTenant(gateway, input);
        },
      );
    });

    test('a smaller setting drops what is too many, and 0 all of them', async () => {
      const many = await start(3);
      const pool = await poolOf(3);
      await many.close();
      const fewer = await start(1);
      const left = await poolOf(1);
      expect(left[0]?.id).toBe(pool[0]?.id);
      const ids = pool.map(({ id }) => id);
      // Its place, and three roles.
      expect(await existing(ids)).toHaveLength(4);
      await fewer.close();
      const none = await start(0);
      await poolOf(0);
      expect(await existing(ids)).toEqual([]);
      await makeTenant(none, { isolation, name: 'Without standbys' });
      await none.close();
    });

    test('when tenant migrations are added, standbys are migrated forward', async () => {
      const folder = await makeMigrationFolder();
      await folder.write(
        '001_tables',
        'CREATE TABLE settings (id int); CREATE TABLE activity_log (id int)',
      );
      const settings = { TENANT_MIGRATIONS_DIR: folder.path };
      const older = await start(2, { settings });
      await expect
        .poll(async () => (await standbys()).map((each) => each.migrationVersion), {
          timeout: 30_000,
        })
        .toEqual(['001_tables', '001_tables']);
      const before = await poolOf(2);
      await older.close();
      await folder.write('002_more', 'ALTER TABLE settings ADD COLUMN extra text');
      const newer = await start(2, { settings });
      await expect
        .poll(async () => (await standbys()).map((each) => each.migrationVersion), {
          timeout: 30_000,
        })
        .toEqual(['002_more', '002_more']);
      const after = await poolOf(2);
      expect(after.map(({ id }) => id)).toEqual(before.map(({ id }) => id));
      const { tenant } = await makeTenant(newer, { isolation, name: 'Forward' });
      expect(before.map(({ id }) => id)).toContain(tenant.id);
      expect(tenant.database.migrationVersion).toBe('002_more');
      await asTenant(world, tenant.id, (client) => client.query('SELECT extra FROM settings'));
      await poolOf(2);
      await newer.close();
      const emptied = await start(0);
      await poolOf(0);
      await emptied.close();
      await folder.remove();
    });

    test('what an instance left half made is dropped, and made anew', async () => {
      const gateway = await start(1);
      const [standby] = await poolOf(1);
      await gateway.close();
      await world.query("UPDATE control_plane.standbys SET status = 'BUILDING'");
      const next = await start(1);
      await expect
        .poll(async () => (await standbys()).map(({ id }) => id), { timeout: 30_000 })
        .not.toContain(standby!.id);
      await poolOf(1);
      expect(await existing([standby!.id])).toEqual([]);
      await next.close();
    });

    test('two gateways keep one pool', async () => {
      const gateways = await Promise.all([start(3), start(3)]);
      await poolOf(3);
      const made = await Promise.all(
        gateways.flatMap((gateway, place) =>
          [1, 2].map((number) =>
            makeTenant(gateway, { isolation, name: `Of ${place}, ${number}` }),
          ),
        ),
      );
      expect(new Set(made.map(({ tenant }) => tenant.id)).size).toBe(4);
      const pool = await poolOf(3);
      expect(await existing(pool.map(({ id }) => id))).toHaveLength(12);
      for (const gateway of gateways) await gateway.close();
    });
  },
);
