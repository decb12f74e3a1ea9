import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { createBatch, endedBatch, schemas } from './batches.ts';
import { scriptFailpoints } from './failpoints.ts';
import { makeTenant } from './tenants.ts';

let world: World;
const failpoints = scriptFailpoints();

beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.close());
afterEach(() => {
  failpoints.clear();
});

async function ready(): Promise<string[]> {
  const rows = await world.query<{ id: string }>(
    `SELECT id FROM control_plane.standbys WHERE status = 'READY' ORDER BY created_at`,
  );
  return rows.map(({ id }) => id);
}

describe('Mutation.createTenantsBatch and standbys', () => {
  /** A gateway with four standbys, which makes no others. */
  async function withFour(): Promise<{ readonly gateway: TestGateway; readonly pool: string[] }> {
    const gateway = await world.start({ settings: { STANDBY_SCHEMAS: '4' }, failpoints });
    await expect.poll(ready, { timeout: 30_000 }).toHaveLength(4);
    failpoints.fail('standby:recorded');
    return { gateway, pool: await ready() };
  }

  test('a batch leaves two for those who wait for one; what is not ready begins first', async () => {
    const { gateway, pool } = await withFour();
    const { batch } = await createBatch(gateway, { tenants: schemas('reserve', 6) });
    expect(batch!.status).toBe('SUCCEEDED');
    const taken = batch!.results.map(({ tenant }) => pool.includes(tenant!.id));
    expect(taken).toEqual([false, false, false, false, true, true]);
    const left = await ready();
    expect(left).toEqual(pool.slice(2));
    const { tenant } = await makeTenant(gateway, { name: 'Alone', isolation: 'SCHEMA' });
    expect(tenant.id).toBe(left[0]);
    await gateway.close();
  });

  test('a batch for all of which enough are ready takes them', async () => {
    const { gateway, pool } = await withFour();
    const { batch } = await createBatch(gateway, { tenants: schemas('enough', 4) });
    expect(batch!.results.map(({ tenant }) => tenant!.id)).toEqual(pool);
    expect(await ready()).toEqual([]);
    await gateway.close();
  });

  test('two batches at once leave as many', async () => {
    const { gateway, pool } = await withFour();
    const batches = await Promise.all(
      ['left', 'right'].map((side) => createBatch(gateway, { tenants: schemas(side, 5) })),
    );
    for (const { batch } of batches) expect(batch!.status).toBe('SUCCEEDED');
    expect(await ready()).toEqual(pool.slice(2));
    await gateway.close();
  });
});

describe('Mutation.createTenantsBatch beside Mutation.createTenant', () => {
  async function running(batchId: string): Promise<number> {
    const rows = await world.query(
      `SELECT FROM control_plane.operations WHERE batch_id = $1 AND status = 'RUNNING'`,
      [batchId],
    );
    return rows.length;
  }

  test('while somebody waits for one tenant, one item at a time begins; then five', async () => {
    const gateway = await world.start({ failpoints });
    const alone = failpoints.hold('reserve:before');
    const items = failpoints.hold('create_schema:before');
    const single = makeTenant(gateway, { name: 'Single' });
    await alone.reached;
    const { batch } = await createBatch(gateway, { tenants: schemas('beside', 7), wait: false });
    await items.reached;
    expect(await running(batch!.id)).toBe(1);
    alone.release();
    await single;
    await expect.poll(() => running(batch!.id)).toBe(5);
    items.release();
    expect((await endedBatch(gateway, batch!.id)).summary.successful).toBe(7);
    await gateway.close();
  });
});
