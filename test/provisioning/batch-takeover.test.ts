import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { createBatch, endedBatch, type BatchPayload } from './batches.ts';
import { tracesOf } from './traces.ts';
import { startVictim, type Victim } from './victim.ts';

let world: World;
/** The one that stays. */
let survivor: TestGateway;
let victim: Victim | undefined;

beforeAll(async () => {
  world = await createWorld();
  survivor = await world.start({ settings: { TAKEOVER_SECONDS: '1' } });
});
afterEach(() => victim?.kill());
afterAll(() => world.close());

/** Every item is made or reported, none twice, none half. */
async function expectWhole(batchId: string, count: number): Promise<void> {
  const batch = await endedBatch(survivor, batchId);
  expect(batch.results.map(({ index }) => index)).toEqual(
    Array.from({ length: count }, (_, index) => index),
  );
  expect(batch.summary.successful + batch.summary.failed).toBe(count);
  expect(batch.summary.successful).toBe(count); // nothing failed but the instance
  for (const { operation } of batch.results) {
    const traces = await tracesOf(world, operation!.id);
    expect(traces).toMatchObject({ status: 'ACTIVE', apiKeys: 1, openJobs: 0, secrets: null });
    expect(traces.places).toHaveLength(1);
    expect(traces.roles).toHaveLength(3);
  }
}

/** Has a gateway accept a batch; answers with its id. */
async function acceptedBy(gateway: Victim, input: object): Promise<string> {
  const query =
    'mutation ($input: CreateTenantsBatchInput!) { createTenantsBatch(input: $input) { batch { id } } }';
  const { createTenantsBatch } = await gateway.graphql<{ createTenantsBatch: BatchPayload }>(
    query,
    {
      input: { ...input, wait: false },
    },
  );
  return createTenantsBatch.batch!.id;
}

describe.each([
  ['SCHEMA', 50],
  ['DATABASE', 8],
])('a batch of %s tenants (%i)', (isolation, count) => {
  const inputOf = (name: string) => ({
    tenants: Array.from({ length: count }, (_, index) => ({
      name: `${name} ${index}`,
      slug: `${name}-${isolation.toLowerCase()}-${index}`,
      isolation,
    })),
    idempotencyKey: `${name} ${isolation}`,
  });

  test('survives the instance that accepted it, and whoever asks again gets the keys', async () => {
    victim = await startVictim(world, {});
    const input = inputOf('accepted');
    const id = await acceptedBy(victim, input);
    await sleep(randomInt(400)); // a moment of chance: every one has to do
    await victim.kill();
    await expectWhole(id, count);
    const { batch } = await createBatch(survivor, input);
    expect(batch!.id).toBe(id);
    expect(batch!.results.map(({ apiKey }) => apiKey)).toEqual(
      Array(count).fill(expect.stringMatching(/^tk_/)),
    );
  });

  test('survives an instance of which nobody knows that its next items have begun', async () => {
    victim = await startVictim(world, { HOLD: 'next_items:begun' });
    const id = await acceptedBy(victim, inputOf('begun'));
    expect(await victim.line()).toBe('next_items:begun');
    await victim.kill();
    await expectWhole(id, count);
  });

  test('survives an instance that helped', async () => {
    victim = await startVictim(world, {});
    const { batch } = await createBatch(survivor, { ...inputOf('helped'), wait: false });
    await sleep(randomInt(400));
    await victim.kill();
    await expectWhole(batch!.id, count);
  });
});

test('equal requests at once, over two instances, make one batch', async () => {
  const other = await world.start();
  const tenants = [
    { name: 'equal 0', isolation: 'SCHEMA' },
    { name: 'equal 1', isolation: 'SCHEMA' },
  ];
  const input = { tenants, idempotencyKey: 'equal' };
  const payloads = await Promise.all(
    Array.from({ length: 10 }, (_, index) =>
      createBatch(index % 2 === 0 ? survivor : other, input),
    ),
  );
  const [first] = payloads;
  expect(first!.batch).toMatchObject({ status: 'SUCCEEDED' });
  for (const payload of payloads) expect(payload.batch).toEqual(first!.batch);
  const changed = await createBatch(other, { ...input, atomic: true });
  expect(changed).toMatchObject({ batch: null, userErrors: [{ code: 'IDEMPOTENCY_MISMATCH' }] });
  await other.close();
});
