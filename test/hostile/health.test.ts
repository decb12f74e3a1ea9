import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { isolations } from '../provisioning/isolations.ts';
import { connectionString, makeTenant, type Made } from '../provisioning/tenants.ts';
import { spoil } from './trap.ts';

interface Health {
  readonly status: string;
  readonly reachable: boolean;
  readonly schemaValid: boolean;
  readonly migrationVersion: string | null;
  readonly error: string | null;
}

describe.each(['superuser', 'limited'] as const)('Query.tenantHealth as a %s', (admin) => {
  let world: World;
  let gateway: TestGateway;

  beforeAll(async () => {
    world = await createWorld({ admin });
    gateway = await world.start();
  });
  afterAll(() => world.close());

  async function healthOf(...made: readonly Made[]): Promise<Health[]> {
    const { tenantHealth } = await gateway.graphql<{ tenantHealth: Health[] }>(
      `query ($ids: [ID!]) { tenantHealth(ids: $ids) {
         status reachable schemaValid migrationVersion error } }`,
      { ids: made.map(({ tenant }) => tenant.id) },
    );
    return tenantHealth;
  }

  const healthy = { status: 'HEALTHY', schemaValid: true, error: null };

  test.each(isolations)(
    '$isolation: tenants that catch their cancellation and hang are unhealthy, and nothing else is',
    async ({ isolation }) => {
      const hanging = await Promise.all(
        [1, 2, 3, 4].map((number) =>
          makeTenant(gateway, { name: `Hangs ${number} ${isolation}`, isolation }),
        ),
      );
      const other = await makeTenant(gateway, { name: `Waits for none ${isolation}`, isolation });
      for (const made of hanging) {
        await spoil(
          world,
          made,
          `CREATE FUNCTION hang() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
             FOR i IN 1..1000 LOOP
               BEGIN PERFORM pg_sleep(1); EXCEPTION WHEN query_canceled THEN NULL; END;
             END LOOP; RETURN ''; END $$;
           ALTER TABLE knex_migrations RENAME TO was;
           CREATE VIEW knex_migrations AS SELECT 1 AS id, hang() AS name`,
        );
      }
      const found = await healthOf(...hanging, other);
      expect(found.slice(0, 4)).toEqual(
        hanging.map(
          () =>
            expect.objectContaining({
              status: 'ERROR',
              error: expect.stringMatching(/^It did not answer/) as string,
            }) as Health,
        ),
      );
      expect(found[4]).toMatchObject(healthy);
      const { json } = await gateway.get('/readyz');
      expect(json).toMatchObject({ checks: { 'cluster:default': 'ok' } });
      await makeTenant(gateway, { name: `Made meanwhile ${isolation}`, isolation });
    },
  );

  test.each(isolations)(
    '$isolation: a tenant that changed its password is told of, and looked after all the same',
    async ({ isolation }) => {
      const made = await makeTenant(gateway, { name: 'Changed its password', isolation });
      await spoil(world, made, `SET ROLE NONE; ALTER ROLE "%login%" PASSWORD 'of its own'`);
      expect(await healthOf(made)).toMatchObject([
        {
          status: 'ERROR',
          reachable: false,
          schemaValid: true,
          migrationVersion: made.tenant.database.migrationVersion,
          error: 'Its credentials are refused',
        },
      ]);
    },
  );

  test.each(isolations)(
    '$isolation: the verifier of a password cannot keep the gateway computing',
    async ({ isolation }) => {
      const made = await makeTenant(gateway, { name: 'Costly password', isolation });
      const salt = Buffer.alloc(16).toString('base64');
      const key = Buffer.alloc(32).toString('base64');
      await spoil(
        world,
        made,
        `SET ROLE NONE; ALTER ROLE "%login%" PASSWORD 'SCRAM-SHA-256$200000:${salt}$${key}:${key}'`,
      );
      expect(await healthOf(made)).toMatchObject([
        { schemaValid: true, error: 'Its credentials are refused' },
      ]);
    },
  );

  test.each(isolations)(
    '$isolation: settings of its own login change nothing for a look',
    async ({ isolation }) => {
      const made = await makeTenant(gateway, { name: 'Settings', isolation });
      await spoil(
        world,
        made,
        `SET ROLE NONE; ALTER ROLE "%login%" SET statement_timeout = 1;
         ALTER ROLE "%login%" SET lock_timeout = 1; ALTER ROLE "%login%" SET datestyle = 'German';
         ALTER ROLE "%login%" SET default_transaction_isolation = 'serializable';
         ALTER ROLE "%login%" SET standard_conforming_strings = off;
         ALTER ROLE "%login%" SET quote_all_identifiers = on`,
      );
      expect(await healthOf(made)).toMatchObject([healthy]);
    },
  );

  test.each(isolations)(
    '$isolation: one that uses up its own connections is looked after by the service login',
    async ({ isolation }) => {
      const made = await makeTenant(gateway, { name: 'Crowded', isolation });
      const url = await connectionString(world, made.tenant.id);
      const [role] = await world.query<{ limit: number }>(
        `SELECT rolconnlimit AS "limit" FROM pg_roles WHERE rolname = $1`,
        [decodeURIComponent(new URL(url).username)],
      );
      await world.query(
        `ALTER ROLE "${decodeURIComponent(new URL(url).username)}" CONNECTION LIMIT 3`,
      );
      expect(role!.limit).toBeGreaterThan(3);
      const clients = Array.from({ length: 3 }, () => new pg.Client(url));
      await Promise.all(clients.map((client) => client.connect()));
      expect(await healthOf(made)).toMatchObject([
        { status: 'ERROR', schemaValid: true, error: 'It has no connection to spare' },
      ]);
      await Promise.all(clients.map((client) => client.end()));
    },
  );
});
