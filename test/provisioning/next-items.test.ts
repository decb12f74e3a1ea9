import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { onServer } from '../control-template.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { openProxy } from '../proxy.ts';
import { createBatch, endedBatch, schemas } from './batches.ts';
import { scriptFailpoints } from './failpoints.ts';
import { isolations } from './isolations.ts';
import { makeTenant } from './tenants.ts';

let world: World;
let gateway: TestGateway;
const failpoints = scriptFailpoints();
const settings = { BATCH_CONCURRENCY: '2' };

beforeAll(async () => {
  world = await createWorld();
  await world.query(
    `CREATE TABLE public.moves (id uuid, status text, xid xid8);
     CREATE FUNCTION public.record_move() RETURNS trigger LANGUAGE plpgsql AS $$
       BEGIN
         INSERT INTO public.moves VALUES (NEW.id, NEW.status, pg_current_xact_id());
         RETURN NULL;
       END $$;
     CREATE TRIGGER moves AFTER UPDATE OF status ON control_plane.operations
       FOR EACH ROW EXECUTE FUNCTION public.record_move()`,
  );
});
afterAll(() => world.close());
afterEach(async () => {
  failpoints.clear();
  await gateway.close();
});

interface Item {
  readonly status: string;
  readonly fence: number;
}

async function itemsOf(batchId: string): Promise<Item[]> {
  return world.query<Item>(
    `SELECT status, fence::integer FROM control_plane.operations
     WHERE batch_id = $1 ORDER BY batch_index`,
    [batchId],
  );
}

async function statusesOf(batchId: string): Promise<string[]> {
  return (await itemsOf(batchId)).map(({ status }) => status);
}

/** A batch whose first two items stop before they are verified, until `release`. */
async function heldBatch(prefix: string): Promise<{ id: string; release: () => void }> {
  const verification = failpoints.hold('verify_connection:before');
  const { batch } = await createBatch(gateway, { tenants: schemas(prefix, 4), wait: false });
  await verification.reached;
  return { id: batch!.id, release: () => verification.release() };
}

/** Has succeeded, and no items of it were taken over but those in these places. */
async function expectMade(batchId: string, takenOver: readonly number[] = []): Promise<void> {
  expect((await endedBatch(gateway, batchId)).status).toBe('SUCCEEDED');
  const items = await itemsOf(batchId);
  expect(items.map(({ fence }) => fence)).toEqual(
    items.map((_, index) => (takenOver.includes(index) ? 2 : 1)),
  );
}

/** Places of the items that have begun where one of the first two has ended; once there are some. */
async function begunNext(batchId: string): Promise<number[]> {
  const places = async (): Promise<number[]> => {
    const [first, second, ...next] = await statusesOf(batchId);
    const hasEnded = [first, second].includes('SUCCEEDED');
    return hasEnded ? next.flatMap((status, index) => (status === 'RUNNING' ? index + 2 : [])) : [];
  };
  await expect.poll(places, { timeout: 15_000 }).not.toEqual([]);
  return places();
}

describe('the next items of Mutation.createTenantsBatch', () => {
  test.for(isolations)(
    '$isolation: begin in the commit that ends others',
    async ({ isolation }) => {
      gateway = await world.start({ settings });
      const tenants = Array.from({ length: 6 }, (_, index) => ({
        name: `${isolation} ${index}`,
        isolation,
      }));
      const { batch } = await createBatch(gateway, { tenants });
      await expectMade(batch!.id);
      const moves = await world.query<{ index: number; status: string; xid: string }>(
        `SELECT batch_index AS index, move.status, xid::text FROM public.moves AS move
         JOIN control_plane.operations USING (id) WHERE batch_id = $1`,
        [batch!.id],
      );
      const ends = moves.filter(({ status }) => status === 'SUCCEEDED').map(({ xid }) => xid);
      const begins = moves.filter(({ index, status }) => status === 'RUNNING' && index > 1);
      expect(begins).toHaveLength(4);
      for (const { xid } of begins) expect(ends).toContain(xid);
    },
  );

  test('begin without it where those before them could not end together', async () => {
    gateway = await world.start({ settings, failpoints });
    failpoints.fail('commit:before', 1);
    const { batch } = await createBatch(gateway, { tenants: schemas('apart', 4) });
    await expectMade(batch!.id);
  });

  test('keep nobody from ending while others begin elsewhere', async () => {
    gateway = await world.start({ settings, failpoints });
    const { id, release } = await heldBatch('elsewhere');
    await onServer(world.controlUrl, async (client) => {
      await client.query('SELECT pg_advisory_lock(7311, 2)'); // what whoever begins items takes
      release();
      await expect
        .poll(() => statusesOf(id), { timeout: 15_000 })
        .toEqual(['SUCCEEDED', 'SUCCEEDED', 'QUEUED', 'QUEUED']);
    });
    await expectMade(id);
  });

  test('leave places to whoever waits for a single tenant', async () => {
    gateway = await world.start({ settings, failpoints });
    const { id, release } = await heldBatch('single');
    const alone = failpoints.hold('reserve:before');
    const single = makeTenant(gateway, { name: 'Single' });
    await alone.reached;
    const later = failpoints.hold('create_role:before');
    release();
    await later.reached;
    await expect
      .poll(() => statusesOf(id), { timeout: 15_000 })
      .toEqual(['SUCCEEDED', 'SUCCEEDED', 'RUNNING', 'QUEUED']);
    alone.release();
    later.release();
    await single;
    await expectMade(id);
  });

  test('are handed back at once by an instance that stops', async () => {
    gateway = await world.start({ settings, failpoints });
    const { id, release } = await heldBatch('stopping');
    const commit = failpoints.hold('commit:before');
    release();
    await commit.reached;
    const stopped = gateway.close();
    commit.release();
    await stopped;
    const begun = await begunNext(id);
    const due = await world.query(
      `SELECT FROM control_plane_jobs.job j JOIN control_plane.operations o ON o.id = j.id
       WHERE o.batch_id = $1 AND o.status = 'RUNNING' AND j.state = 'created'
         AND j.start_after <= now()`,
      [id],
    );
    expect(due).toHaveLength(begun.length);
    gateway = await world.start({ failpoints });
    await expectMade(id, begun);
  });

  test('are left to their leases where the answer to the commit is lost', async () => {
    const proxy = await openProxy(world.controlUrl);
    gateway = await world.start({
      settings: { ...settings, DATABASE_URL: proxy.url, TAKEOVER_SECONDS: '1' },
      failpoints,
    });
    const { id, release } = await heldBatch('lost');
    failpoints.at('commit:before', async () => proxy.mute());
    release();
    const begun = await begunNext(id);
    failpoints.clear();
    proxy.cut();
    await expectMade(id, begun);
    await gateway.close();
    await proxy.close();
  });
});
