import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { scriptFailpoints } from './failpoints.ts';
import { isolations } from './isolations.ts';
import { asTenant, createTenant, makeTenant } from './tenants.ts';
import { expectNothingLeft } from './traces.ts';

describe.each(['superuser', 'limited'] as const)('as a %s', (admin) => {
  const failpoints = scriptFailpoints();
  let world: World;
  let gateway: TestGateway;
  beforeAll(async () => {
    world = await createWorld({ admin });
    gateway = await world.start({ failpoints });
  });
  afterAll(() => world.close());

  const pairs = isolations.flatMap((giver) =>
    isolations.map((taker) => [giver.isolation, taker.isolation] as const),
  );

  test.each(pairs)(
    'a tenant (%s) that gives rights to one in the making (%s) keeps nobody from undoing it',
    async (giver, taker) => {
      const made = await makeTenant(gateway, {
        name: `Giver ${giver} to ${taker}`,
        isolation: giver,
      });
      failpoints.at('verify_connection:before', async () => {
        const [roles] = await world.query<{ owner: string; login: string }>(
          `SELECT owner_role AS owner, login_role AS login FROM control_plane.tenant_databases
           WHERE status = 'PENDING'`,
        );
        const { login, owner } = roles!;
        await asTenant(world, made.tenant.id, (client) =>
          client.query(`
            CREATE TABLE gift (); CREATE SEQUENCE gifts; CREATE FUNCTION give() RETURNS int RETURN 1;
            GRANT ALL ON gift, settings TO "${owner}", "${login}"; GRANT ALL ON SEQUENCE gifts TO "${owner}";
            GRANT EXECUTE ON FUNCTION give() TO "${login}";
            ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO "${owner}"`),
        );
        throw new Error('it fails now');
      });
      const { operation, userErrors } = await createTenant(gateway, {
        name: `Taker ${giver} ${taker}`,
        isolation: taker,
      });
      failpoints.clear();
      expect(userErrors).toMatchObject([{ code: 'PROVISIONING_FAILED' }]);
      await expectNothingLeft(world, gateway, operation!.id);
    },
  );
});
