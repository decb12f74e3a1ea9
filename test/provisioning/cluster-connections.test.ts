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
    let before = new Set<number>();
    let done = false;
    const watching = onServer(second.url, async (client) => {
      while (!done) {
        // All but the session by which whoever started the server holds it.
        const { rows } = await client.query<{ pid: number }>(
          `SELECT pid FROM pg_stat_activity
           WHERE backend_type = 'client backend' AND application_name LIKE 'tenantry%'
             AND application_name NOT LIKE 'tenantry gateway%'`,
        );
        // A look is not one moment: the server goes from session to session, and one may end and the
        // next begin meanwhile. Those that two looks see were all there between them.
        const pids = new Set(rows.map(({ pid }) => pid));
        most = Math.max(most, pids.intersection(before).size);
        before = pids;
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
