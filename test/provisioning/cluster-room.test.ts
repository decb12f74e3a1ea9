import { withDatabase } from '../control-template.ts';
import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { scriptFailpoints } from './failpoints.ts';
import { clusterOf, clusters } from './second-server.ts';
import { createTenant, makeTenant } from './tenants.ts';

const failpoints = scriptFailpoints();
let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  // Two names for one server: room is a matter of the registry alone.
  const url = world.controlUrl;
  gateway = await world.start({
    failpoints,
    settings: clusters(
      { name: 'small', url, weight: 3, maxTenants: 3 },
      { name: 'spare', url: withDatabase(inject('serverUrl'), 'postgres'), maxTenants: 9 },
      { name: 'aside', url, weight: 0 },
    ),
  });
});
afterEach(() => failpoints.clear());
afterAll(() => world.close());

async function counts(): Promise<Record<string, number>> {
  const rows = await world.query<{ cluster: string; count: number }>(
    `SELECT cluster, count(*)::int FROM control_plane.tenant_databases JOIN control_plane.tenants
       ON id = tenant_id WHERE tenants.status <> 'FAILED' GROUP BY cluster`,
  );
  return Object.fromEntries(rows.map(({ cluster, count }) => [cluster, count]));
}

describe('maxTenants', () => {
  test('is never exceeded, whatever comes at once', async () => {
    const payloads = await Promise.all(
      Array.from({ length: 20 }, (_, index) => createTenant(gateway, { name: `Crowd ${index}` })),
    );
    expect(await counts()).toEqual({ small: 3, spare: 9 });
    expect(payloads.filter(({ tenant }) => tenant !== null)).toHaveLength(12);
    const refusals = payloads.flatMap(({ userErrors }) => userErrors);
    expect(refusals).toHaveLength(8);
    for (const refused of refusals) {
      expect(refused).toEqual({
        code: 'LIMIT_EXCEEDED',
        message: 'All clusters are full',
        field: null,
      });
    }
  });

  test('LIMIT_EXCEEDED for the one that is named', async () => {
    const { operation, userErrors } = await createTenant(gateway, { name: 'No', cluster: 'small' });
    expect(operation).toBeNull();
    expect(userErrors).toEqual([
      { code: 'LIMIT_EXCEEDED', message: 'Cluster small is full', field: ['input', 'cluster'] },
    ]);
  });

  test('one of weight 0 takes those that name it', async () => {
    const { tenant } = await makeTenant(gateway, { name: 'Set aside', cluster: 'aside' });
    expect(await clusterOf(world, tenant.id)).toBe('aside');
  });

  test('counts deleted tenants, whose data is still there', async () => {
    const [row] = await world.query<{ id: string }>(
      `SELECT tenant_id AS id FROM control_plane.tenant_databases
       WHERE cluster = 'small' AND status = 'PROVISIONED' LIMIT 1`,
    );
    await gateway.graphql(
      'mutation ($id: ID!) { deleteTenant(input: { id: $id }) { userErrors { code } } }',
      { id: row!.id },
    );
    const { userErrors } = await createTenant(gateway, { name: 'Still', cluster: 'small' });
    expect(userErrors).toMatchObject([{ code: 'LIMIT_EXCEEDED' }]);
  });

  test('one that could not be made leaves its place to the next', async () => {
    await world.query(
      `UPDATE control_plane.tenant_databases SET cluster = 'aside' WHERE tenant_id =
         (SELECT tenant_id FROM control_plane.tenant_databases
          WHERE cluster = 'small' AND status = 'PROVISIONED' LIMIT 1)`,
    );
    failpoints.fail('activate:before');
    const failed = await createTenant(gateway, { name: 'Fails', cluster: 'small' });
    expect(failed.userErrors).toMatchObject([{ code: 'PROVISIONING_FAILED' }]);
    failpoints.clear();
    await makeTenant(gateway, { name: 'Next', cluster: 'small' });
    const { userErrors } = await createTenant(gateway, { name: 'One more', cluster: 'small' });
    expect(userErrors).toMatchObject([{ code: 'LIMIT_EXCEEDED' }]);
  });

  test('a repeated request that finds its own tenant in the last place gets that one', async () => {
    await world.query(
      `UPDATE control_plane.tenant_databases SET cluster = 'aside' WHERE tenant_id =
         (SELECT tenant_id FROM control_plane.tenant_databases
          WHERE cluster = 'small' AND status = 'PROVISIONED' LIMIT 1)`,
    );
    const input = { name: 'Twice', cluster: 'small', idempotencyKey: 'twice' };
    const answers = await Promise.all(
      Array.from({ length: 6 }, () => createTenant(gateway, input)),
    );
    expect(answers.flatMap(({ userErrors }) => userErrors)).toEqual([]);
    expect(new Set(answers.map(({ tenant }) => tenant?.id)).size).toBe(1);
  });
});
