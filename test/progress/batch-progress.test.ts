import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { createBatch, endedBatch, schemas } from '../provisioning/batches.ts';
import { scriptFailpoints } from '../provisioning/failpoints.ts';
import {
  all,
  codeOf,
  expectOpen,
  overServerSentEvents,
  overWebSocket,
  until,
  ways,
} from './watch.ts';

let world: World;
let worker: TestGateway;
/** Another instance on the same control plane; it begins nothing while it is told to hold. */
let other: TestGateway;
const failpoints = scriptFailpoints();

beforeAll(async () => {
  world = await createWorld();
  [worker, other] = await Promise.all([world.start({ failpoints }), world.start({ failpoints })]);
});
afterAll(() => world.close());
beforeEach(() => {
  failpoints.clear();
});

describe.each(ways)('progress of a batch over %s', (way, watch) => {
  const prefix = `by-${way
    .toLowerCase()
    .replaceAll(/[^a-z]+/g, '-')
    .replace(/-$/, '')}`;

  test('the whole story of all items, live, from any instance, then the end', async () => {
    const held = failpoints.hold('verify_connection:before');
    const { batch } = await createBatch(worker, { tenants: schemas(prefix, 7), wait: false });
    const batchId = batch!.id;
    const streams = [watch(worker, { batchId }), watch(other, { batchId })];
    const before = await Promise.all(
      streams.map((stream) => until(stream, 'run_migrations', 'SUCCEEDED')),
    );
    held.release();
    const after = await Promise.all(streams.map((stream) => all(stream)));
    const [here = [], elsewhere] = streams.map((_, index) => [...before[index]!, ...after[index]!]);
    expect(elsewhere).toEqual(here);
    expect(new Set(here.map((event) => event.batchId))).toEqual(new Set([batchId]));
    expect(here.filter(({ operationStatus }) => operationStatus === 'SUCCEEDED')).toHaveLength(7);
    const progress = here.map((event) => event.batch!);
    expect(progress.map(({ percent }) => percent)).toEqual(
      progress.map(({ percent }) => percent).toSorted((a, b) => a - b),
    );
    expect(progress.at(-1)).toEqual({ total: 7, succeeded: 7, failed: 0, percent: 100 });

    const late = await all(watch(other, { batchId }));
    expect(late).toEqual(here);
    const middle = here[20]!.sequence;
    expect(await all(watch(other, { batchId, afterSequence: middle }))).toEqual(here.slice(21));
  });

  test('of one that is rolled back, also the undoing; percent never falls, and is not 100', async () => {
    let count = 0;
    failpoints.at('verify_connection:before', () => {
      count += 1;
      return count < 6 ? Promise.resolve() : Promise.reject(new Error('failpoint'));
    });
    const tenants = schemas(`${prefix}-undone`, 6);
    const { batch } = await createBatch(worker, { tenants, atomic: true, wait: false });
    const events = await all(watch(other, { batchId: batch!.id }));
    const ends = events.filter(({ operationStatus }) => operationStatus === 'COMPENSATED');
    expect(ends).toHaveLength(6);
    const percents = events.map((event) => event.batch!.percent);
    expect(percents).toEqual(percents.toSorted((a, b) => a - b));
    expect(percents.at(-1)).toBeLessThan(100);
    expect(events.at(-1)!.batch).toMatchObject({ total: 6, succeeded: 0, failed: 6 });
    expect((await endedBatch(worker, batch!.id)).status).toBe('ROLLED_BACK');
  });
});

describe.each([
  ['graphql-ws', overWebSocket],
  ['graphql-sse', overServerSentEvents],
] as const)('Subscription.tenantProvisioningProgress over %s', (way, watch) => {
  test('by the idempotency key of a batch, before it is used', async () => {
    const idempotencyKey = `batch ${way}`;
    const events = all(watch(other, { idempotencyKey }));
    await expectOpen(other, 1);
    const tenants = schemas(`${way}-keyed`, 2);
    const { batch } = await createBatch(worker, { tenants, idempotencyKey });
    expect((await events).at(-1)!.batch).toMatchObject({ succeeded: 2, percent: 100 });
    expect(await events).toEqual(await all(watch(worker, { batchId: batch!.id })));
  });

  test('beyond the end of a batch there is nothing but the end', async () => {
    const { batch } = await createBatch(worker, { tenants: schemas(`${way}-beyond`, 1) });
    expect(await all(watch(worker, { batchId: batch!.id, afterSequence: 1e9 }))).toEqual([]);
  });

  test('a batch whose items were all refused has no story', async () => {
    const { batch } = await createBatch(worker, { tenants: [{ name: '' }] });
    expect(await all(watch(worker, { batchId: batch!.id }))).toEqual([]);
  });
});

describe('Subscription.tenantProvisioningProgress', () => {
  test.each([
    ['an unknown batch', { batchId: '00000000-0000-4000-8000-000000000000' }, 'NOT_FOUND'],
    ['no id', { batchId: 'nobody' }, 'NOT_FOUND'],
    ['two selectors', { batchId: 'a', operationId: 'b' }, 'BAD_USER_INPUT'],
    ['a negative afterSequence', { batchId: 'a', afterSequence: -1 }, 'BAD_USER_INPUT'],
  ])('%s is refused', async (_what, selection, code) => {
    expect(await codeOf(overWebSocket(worker, selection))).toBe(code);
  });
});

describe('GET /api/batches/{id}', () => {
  test('tells of a batch, without keys', async () => {
    const { batch } = await createBatch(worker, {
      tenants: [...schemas('resource', 1), { name: '' }],
    });
    const { json, status } = await other.get(`/api/batches/${batch!.id}`);
    expect(status).toBe(200);
    expect(json).toMatchObject({
      id: batch!.id,
      status: 'partially_failed',
      atomic: false,
      summary: { total_requested: 2, successful: 1, failed: 1 },
      results: [
        { index: 0, success: true, operation_status: 'succeeded', error: null },
        { index: 1, success: false, operation_id: null, error: { code: 'INVALID' } },
      ],
    });
    expect(JSON.stringify(json)).not.toContain('tk_');
  });

  test.each(['00000000-0000-4000-8000-000000000000', 'nobody'])('%s is not there', async (id) => {
    expect((await worker.get(`/api/batches/${id}`)).status).toBe(404);
    expect((await worker.get(`/api/batches/${id}/events`)).status).toBe(404);
  });
});
