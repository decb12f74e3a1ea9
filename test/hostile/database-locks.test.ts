import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { scriptFailpoints } from '../provisioning/failpoints.ts';
import { connectionString, createTenant, makeTenant, type Made } from '../provisioning/tenants.ts';
import { expectNothingLeft } from '../provisioning/traces.ts';

describe.each(['superuser', 'limited'] as const)(
  'a tenant that locks databases, as a %s',
  (admin) => {
    const failpoints = scriptFailpoints();
    let world: World;
    let gateway: TestGateway;
    const open: pg.Client[] = [];

    beforeAll(async () => {
      world = await createWorld({ admin });
      gateway = await world.start({ failpoints });
    });
    afterEach(async () => {
      failpoints.clear();
      for (const client of open.splice(0)) await client.end().catch(() => undefined);
    });
    afterAll(() => world.close());

    /** A session of a tenant in a transaction that stays open. */
    async function holding({ tenant }: Made): Promise<pg.Client> {
      const client = new pg.Client(await connectionString(world, tenant.id));
      client.on('error', () => undefined); // it is ended
      open.push(client);
      await client.connect();
      await client.query('SET idle_in_transaction_session_timeout = 0; BEGIN');
      return client;
    }

    /** Settings for its own login in each database: that locks them, the one in the making too. */
    async function lockAll(client: pg.Client): Promise<void> {
      await client.query('SET LOCAL role = none');
      await client.query(
        `DO $$ DECLARE name name; BEGIN FOR name IN SELECT datname FROM pg_database LOOP
         EXECUTE format('ALTER ROLE SESSION_USER IN DATABASE %I SET work_mem = ''4MB''', name);
       END LOOP; END $$`,
      );
    }

    test('keeps no database from getting its name', async () => {
      const holder = await holding(await makeTenant(gateway, { name: 'Holder of names' }));
      failpoints.at('create_database:inside', () => lockAll(holder));
      const input = { name: 'Named', databaseNaming: 'SLUG' };
      expect(await makeTenant(gateway, input)).toMatchObject({ tenant: { status: 'ACTIVE' } });
    });

    test('keeps no database from being dropped', async () => {
      const holder = await holding(await makeTenant(gateway, { name: 'Holder of drops' }));
      failpoints.at('verify_connection:before', async () => {
        await lockAll(holder);
        throw new Error('failpoint');
      });
      const { operation, userErrors } = await createTenant(gateway, { name: 'Undone' });
      expect(userErrors).toMatchObject([{ code: 'PROVISIONING_FAILED' }]);
      expect(operation?.status).toBe('COMPENSATED');
      await expectNothingLeft(world, gateway, operation!.id);
    });

    test('keeps no gateway that starts from making schemas', async () => {
      const made = await makeTenant(gateway, { name: 'Holder of rights', isolation: 'SCHEMA' });
      const holder = await holding(made);
      // It changes nothing, and holds the database's entry locked all the same.
      await holder.query(`GRANT CONNECT ON DATABASE "${world.sharedDatabase}" TO CURRENT_USER`);
      const other = await world.start();
      await makeTenant(other, { name: 'Beside it', isolation: 'SCHEMA' });
      await other.close();
      await holder.query('COMMIT');
    });
  },
);

test('settings that a trap left with a service login do not keep the gateway from using it', async () => {
  const world = await createWorld();
  const gateway = await world.start();
  const { tenant } = await makeTenant(gateway, { name: 'Trapped' });
  const service = `svc_${tenant.id.replaceAll('-', '_')}`;
  const { username } = new URL(await connectionString(world, tenant.id));
  const database = tenant.database.databaseName;
  await world.query(`ALTER ROLE "${service}" SET local_preload_libraries = 'nope';
    ALTER ROLE "${service}" IN DATABASE "${database}" SET local_preload_libraries = 'nope';
    ALTER ROLE "${service}" SET role = none`);
  // So that its own login is refused, by another way than a password.
  await world.query(`ALTER ROLE "${username}" SET local_preload_libraries = 'nope'`);
  const { tenant: found } = await gateway.graphql<{ tenant: object }>(
    `query ($id: ID!) { tenant(id: $id) {
       database { health { status reachable schemaValid migrationVersion } } } }`,
    { id: tenant.id },
  );
  expect(found).toEqual({
    database: {
      health: {
        status: 'ERROR',
        reachable: false,
        schemaValid: true,
        migrationVersion: expect.stringMatching(/^\d+_/) as string,
      },
    },
  });
  const [role] = await world.query('SELECT rolconfig FROM pg_roles WHERE rolname = $1', [service]);
  expect(role).toEqual({ rolconfig: [`role=own_${tenant.id.replaceAll('-', '_')}`] });
  await world.close();
});
