import { EventSource } from 'eventsource';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { all, overWebSocket, type Selection } from '../progress/watch.ts';
import { createBatch, schemas } from '../provisioning/batches.ts';
import { scriptFailpoints } from '../provisioning/failpoints.ts';
import { createTenant } from '../provisioning/tenants.ts';
import { startVictim } from '../provisioning/victim.ts';

let world: World;
/** Does the work; what is read is read from processes beside it. */
let worker: TestGateway;
const failpoints = scriptFailpoints();

beforeAll(async () => {
  world = await createWorld();
  worker = await world.start({ failpoints });
});
afterAll(() => world.close());

interface Begun {
  readonly path: string;
  readonly selection: Selection;
}

const subjects: readonly (readonly [string, (worker: TestGateway) => Promise<Begun>])[] = [
  [
    '/api/operations/{id}/events',
    async (gateway) => {
      const input = { name: 'Followed', isolation: 'SCHEMA', wait: false };
      const { operation } = await createTenant(gateway, input);
      const operationId = operation!.id;
      return { path: `/api/operations/${operationId}/events`, selection: { operationId } };
    },
  ],
  [
    '/api/batches/{id}/events',
    async (gateway) => {
      const { batch } = await createBatch(gateway, { tenants: schemas('source', 3), wait: false });
      const batchId = batch!.id;
      return { path: `/api/batches/${batchId}/events`, selection: { batchId } };
    },
  ],
];

test.each(subjects)(
  'an EventSource at %s whose gateway is killed goes on at another one, and stops at the end',
  async (_path, begin) => {
    const [first, second] = await Promise.all([startVictim(world, {}), startVictim(world, {})]);
    const held = failpoints.hold('verify_connection:before');
    const { path, selection } = await begin(worker);
    let { url } = first;
    const askedAfter: (string | null)[] = [];
    const source = new EventSource(`http://gateways${path}`, {
      // As a balancer would: to whichever of them is there.
      fetch: async (input, init) => {
        askedAfter.push(new Headers(init.headers).get('last-event-id'));
        const response = await fetch(String(input).replace('http://gateways', url), init);
        Object.defineProperty(response, 'url', { value: String(input) });
        return response;
      },
    });
    const ids: number[] = [];
    source.addEventListener('progress', ({ data, lastEventId }) => {
      expect((JSON.parse(data as string) as { sequence: number }).sequence).toBe(
        Number(lastEventId),
      );
      ids.push(Number(lastEventId));
    });
    await expect.poll(() => ids.length, { timeout: 20_000 }).toBeGreaterThan(5);
    await held.reached;
    ({ url } = second);
    await first.kill();
    held.release();
    await expect.poll(() => source.readyState, { timeout: 40_000 }).toBe(source.CLOSED);
    await second.kill();
    failpoints.clear();

    const story = await all(overWebSocket(worker, selection));
    expect(ids).toEqual(story.map(({ sequence }) => sequence));
    expect(askedAfter[0]).toBeNull();
    expect(ids).toContain(Number(askedAfter[1]));
    expect(askedAfter.at(-1)).toBe(String(ids.at(-1))); // answered with 204
  },
);
