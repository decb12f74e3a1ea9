import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { onServer } from '../control-template.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { createBatch, endedBatch } from './batches.ts';
import { scriptFailpoints } from './failpoints.ts';
import { isolations } from './isolations.ts';
import { cancel } from './scheduled.ts';
import { tracesOf } from './traces.ts';

let world: World;
let gateway: TestGateway;
const failpoints = scriptFailpoints();

beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.close());
afterEach(async () => {
  await gateway.close();
  failpoints.clear();
});

describe.for(isolations)(
  'Mutation.createTenantsBatch with standbys, $isolation',
  ({ isolation }) => {
    const tenants = Array.from({ length: 4 }, (_, index) => ({
      name: `${isolation} ${index}`,
      isolation,
    }));

    async function startWithFour(): Promise<void> {
      gateway = await world.start({
        settings: { [`STANDBY_${isolation}S`]: '4', BATCH_CONCURRENCY: '1' },
        failpoints,
      });
      await expect.poll(ready, { timeout: 30_000 }).toBe(4);
      failpoints.fail('standby:recorded'); // makes no others
    }

    async function ready(): Promise<number> {
      const rows = await world.query(
        `SELECT FROM control_plane.standbys WHERE status = 'READY' AND isolation = $1`,
        [isolation],
      );
      return rows.length;
    }

    /** Tenants of these operations that are logged in. */
    async function loggedIn(operationIds: readonly string[]): Promise<number> {
      const rows = await world.query(
        `SELECT FROM pg_stat_activity JOIN control_plane.tenant_databases d ON d.login_role = usename
         JOIN control_plane.operations o ON o.tenant_id = d.tenant_id WHERE o.id = ANY ($1)`,
        [operationIds],
      );
      return rows.length;
    }

    /** A batch of which no item begins while `work` runs. */
    async function waiting(work: (operationIds: string[]) => Promise<void>): Promise<string> {
      return onServer(world.controlUrl, async (client) => {
        await client.query('SELECT pg_advisory_lock(7311, 2)'); // what whoever begins items takes
        const { batch } = await createBatch(gateway, { tenants, wait: false });
        const ids = batch!.results.map(({ operation }) => operation!.id);
        await work(ids);
        await client.query('SELECT pg_advisory_unlock(7311, 2)');
        return batch!.id;
      });
    }

    test('logs in to the next ones before they begin', async () => {
      await startWithFour();
      const id = await waiting(async (operations) => {
        await expect.poll(() => loggedIn(operations)).toBe(2); // one that may begin, and one behind it
      });
      const batch = await endedBatch(gateway, id);
      expect(batch.status).toBe('SUCCEEDED');
      await expect
        .poll(() => loggedIn(batch.results.map(({ operation }) => operation!.id)))
        .toBe(0);
    });

    test('makes no standby anew before they begin', async () => {
      await startWithFour();
      const order: string[] = [];
      failpoints.at('verify_connection:before', async () => void order.push('item'));
      failpoints.at('standby:recorded', () => {
        order.push('standby');
        return Promise.reject(new Error('failpoint'));
      });
      await endedBatch(
        gateway,
        await waiting(async (operations) => {
          await expect.poll(() => loggedIn(operations)).toBe(2);
        }),
      );
      await expect.poll(() => order, { timeout: 10_000 }).toContain('standby');
      expect(order[0]).toBe('item');
    });

    test('ends logins that nobody uses, and logs in again when it has to', async () => {
      await startWithFour();
      const id = await waiting(async (operations) => {
        await expect.poll(() => loggedIn(operations)).toBe(2);
        await expect.poll(() => loggedIn(operations), { timeout: 10_000 }).toBe(0);
      });
      expect(await endedBatch(gateway, id)).toMatchObject({ status: 'SUCCEEDED' });
    });

    test('leaves nothing of one that was logged in to and is cancelled', async () => {
      await startWithFour();
      let cancelled = '';
      const id = await waiting(async (operations) => {
        await expect.poll(() => loggedIn(operations)).toBe(2);
        cancelled = operations[1]!;
        await cancel(gateway, cancelled);
      });
      expect((await endedBatch(gateway, id)).summary).toMatchObject({ successful: 3, failed: 1 });
      expect(await tracesOf(world, cancelled)).toMatchObject({
        places: [],
        roles: [],
        sessions: [],
        operationStatus: 'CANCELLED',
      });
    });

    test('leaves no session behind when it stops', async () => {
      await startWithFour();
      let stopped: Promise<unknown> = Promise.resolve();
      const id = await waiting(async (ids) => {
        await expect.poll(() => loggedIn(ids)).toBe(2);
        stopped = gateway.close();
        await expect.poll(() => loggedIn(ids)).toBe(0);
      });
      await stopped;
      gateway = await world.start({ failpoints }); // which goes on with it
      expect(await endedBatch(gateway, id)).toMatchObject({ status: 'SUCCEEDED' });
    });
  },
);
