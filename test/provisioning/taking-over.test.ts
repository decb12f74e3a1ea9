import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from 'vitest';
import { onServer, withDatabase } from '../control-template.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { postgresError, scriptFailpoints } from './failpoints.ts';
import { makeTenant } from './tenants.ts';

describe.each(['superuser', 'limited'] as const)(
  'what a new database has from its template is the tenant’s, as a %s',
  (admin) => {
    const failpoints = scriptFailpoints();
    let world: World;
    let gateway: TestGateway;
    beforeAll(async () => {
      world = await createWorld({ admin });
      gateway = await world.start({ failpoints });
    });
    afterEach(() => failpoints.clear());
    afterAll(() => world.close());

    /** The roles of the tenant in the making, and what owns a template's content. */
    async function newestRoles(): Promise<{ owner: string; login: string; template: string }> {
      const [roles] = await world.query<{ owner: string; login: string; template: string }>(
        `SELECT database.owner_role AS owner, login_role AS login, template.owner_role AS template
         FROM control_plane.tenant_databases database, control_plane.templates template
         ORDER BY database.created_at DESC LIMIT 1`,
      );
      return roles!;
    }

    async function expectTakenOver(databaseName: string): Promise<void> {
      const { login, owner } = await newestRoles();
      await onServer(withDatabase(inject('serverUrl'), databaseName), async (client) => {
        const { rows: owners } = await client.query<{ owner: string }>(
          `SELECT DISTINCT pg_get_userbyid(relowner)::text AS owner FROM pg_class
           WHERE relnamespace = 'public'::regnamespace
           UNION SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'public'`,
        );
        expect(owners).toEqual([{ owner }]);
        const { rows: memberships } = await client.query(
          `SELECT roleid::regrole::text AS role, member::regrole::text AS member FROM pg_auth_members
           WHERE member IN ($1::regrole, $2::regrole)`,
          [`"${owner}"`, `"${login}"`],
        );
        expect(memberships).toEqual([{ role: owner, member: login }]);
      });
    }

    test('it takes it over itself, and keeps no membership for it', async () => {
      const { tenant } = await makeTenant(gateway, { name: 'Takes over' });
      await expectTakenOver(tenant.database.databaseName);
    });

    test('the admin hands it over where the tenant may not take it', async () => {
      failpoints.at('create_database:opened', async () => {
        const { owner, template } = await newestRoles();
        const [grant] = await world.query<{ grantor: string }>(
          `SELECT grantor::regrole::text AS grantor FROM pg_auth_members
           WHERE roleid = $1::regrole AND member = $2::regrole`,
          [`"${template}"`, `"${owner}"`],
        );
        await world.query(`REVOKE "${template}" FROM "${owner}" GRANTED BY ${grant!.grantor}`);
      });
      const { operation, tenant } = await makeTenant(gateway, { name: 'May not' });
      expect(operation.steps.map(({ attempts }) => attempts)).toEqual(operation.steps.map(() => 1));
      await expectTakenOver(tenant.database.databaseName);
    });

    test('a run that was cut off before it is brought to its end by the next', async () => {
      failpoints.fail('create_database:opened', 1, postgresError('08006'));
      const { operation, tenant } = await makeTenant(gateway, { name: 'Cut off' });
      expect(operation.steps).toContainEqual(
        expect.objectContaining({ name: 'create_database', attempts: 2 }),
      );
      await expectTakenOver(tenant.database.databaseName);
    });
  },
);
