import { afterAll, beforeAll, expect, test } from 'vitest';
import { createWorld, type World } from '../harness.ts';
import { scriptFailpoints } from '../provisioning/failpoints.ts';
import { createTenant } from '../provisioning/tenants.ts';
import { all, overWebSocket } from './watch.ts';

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.close());

async function listeners(): Promise<number[]> {
  const rows = await world.query<{ pid: number }>(
    `SELECT pid FROM pg_stat_activity WHERE application_name = 'tenantry listen'
       AND datname = current_database() AND query LIKE 'LISTEN%'`,
  );
  return rows.map(({ pid }) => pid);
}

test('the connection that listens is lost: progress goes on, and it is made again', async () => {
  const failpoints = scriptFailpoints();
  const working = await world.start({ failpoints });
  const other = await world.start();
  const step = failpoints.hold('create_role:before');
  const input = { name: 'Listened to', isolation: 'SCHEMA', wait: false };
  const { operation } = await createTenant(working, input);
  await step.reached;
  const following = all(overWebSocket(other, { operationId: operation!.id }));
  await expect.poll(listeners, { timeout: 10_000, interval: 20 }).toHaveLength(1);
  const [lost] = await listeners();
  await world.query('SELECT pg_terminate_backend($1, 10000)', [lost]);
  step.release();
  expect((await following).at(-1)).toMatchObject({ operationStatus: 'SUCCEEDED' });
  await expect
    .poll(listeners, { timeout: 10_000, interval: 20 })
    .toSatisfy((pids: number[]) => pids.length === 1 && pids[0] !== lost);
  expect(other.logs()).toContain('the connection that listens for progress was lost');
});
