import { setImmediate } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { onServer } from '../control-template.ts';
import { createWorld, type World } from '../harness.ts';
import { clusters, useSecondServer } from './second-server.ts';
import { createTenant } from './tenants.ts';

const second = useSecondServer();
let world: World;

beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.close());

test.each([3, 6])(
  'CLUSTER_CONNECTIONS_MAX=%i: 20 creates at once work, over no more connections than that',
  async (max) => {
    const gateway = await world.start({
      settings: {
        ...clusters({ name: 'there', url: second.url }),
        CLUSTER_CONNECTIONS_MAX: String(max),
      },
    });
    let most = 0;
    let before = 0;
    let done = false;
    const watching = onServer(second.url, async (client) => {
      while (!done) {
        const { rows } = await client.query<{ count: number }>(
          `SELECT count(*)::int AS count FROM pg_stat_activity
           WHERE backend_type = 'client backend' AND application_name LIKE 'tenantry%'`,
        );
        // A look is not one moment: the server goes from session to session, and on a busy machine one
        // may end and the next begin meanwhile. What is too many is seen twice.
        const { count } = rows[0]!;
        most = Math.max(most, Math.min(before, count));
        before = count;
        await setImmediate();
      }
    });
    const payloads = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        createTenant(gateway, { name: `Of ${max}: ${index}` }),
      ),
    ).finally(() => (done = true));
    await watching;
    expect(payloads.flatMap(({ userErrors }) => userErrors)).toEqual([]);
    expect(most).toBeGreaterThan(1);
    expect(most).toBeLessThanOrEqual(max);
    await gateway.close();
  },
);
