import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type Answer, type TestGateway, type World } from '../harness.ts';
import { countTenants, path, problem } from './contract-a.ts';

let world: World;
let gateway: TestGateway;
let other: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
  other = await world.start();
});
afterAll(() => world.close());

const post = (at: TestGateway, key: string, body: object, headers = {}): Promise<Answer> =>
  at.post(path, body, { 'Idempotency-Key': key, ...headers });

describe('POST /api/v1/tenants: Idempotency-Key', () => {
  test('same key, same payload: the same tenant, from any gateway', async () => {
    const body = { name: 'kept', environment: 'staging' };
    const before = await countTenants(world);
    const first = await post(gateway, 'kept', body);
    expect(first.status).toBe(201);
    for (const at of [gateway, other]) {
      const again = await post(at, 'kept', { environment: 'staging', name: 'kept' });
      expect(again).toMatchObject({ status: 201, json: first.json });
    }
    expect(await countTenants(world)).toBe(before + 1);
  });

  test('20 at once over two gateways: one tenant, and all are told of it', async () => {
    const body = { name: 'raced', environment: 'staging' };
    const before = await countTenants(world);
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) => post(index % 2 ? gateway : other, 'raced', body)),
    );
    for (const answer of answers) {
      expect(answer).toMatchObject({ status: 201, json: answers[0]!.json });
    }
    expect(await countTenants(world)).toBe(before + 1);
  });

  test('same key, other payload: 422', async () => {
    const body = { name: 'bound', environment: 'staging' };
    expect((await post(gateway, 'bound', body)).status).toBe(201);
    for (const changed of [{ name: 'bound!' }, { environment: 'production' }]) {
      const answer = await post(other, 'bound', { ...body, ...changed });
      expect(answer.status).toBe(422);
      expect(answer.json).toEqual(
        problem(
          'value_error',
          ['idempotencyKey'],
          'This idempotency key was used with another payload',
        ),
      );
    }
  });

  test('another key does not make a name free', async () => {
    const body = { name: 'one of it', environment: 'staging' };
    expect((await post(gateway, 'one', body)).status).toBe(201);
    expect((await post(gateway, 'two', body)).status).toBe(400);
    expect((await post(gateway, 'one', body)).status).toBe(201);
  });

  test('refused input releases the key', async () => {
    const body = { name: 'released', environment: 'staging' };
    expect((await post(gateway, 'released', { ...body, name: 'kept' })).status).toBe(400);
    expect((await post(gateway, 'released', { ...body, name: '\0' })).status).toBe(422);
    expect((await post(gateway, 'released', body)).status).toBe(201);
  });

  test.for([
    ['256 characters', 'k'.repeat(256)],
    ['none', ''],
  ] as const)('a key of %s is refused, and makes nothing', async ([, key]) => {
    const before = await countTenants(world);
    const answer = await post(gateway, key, { name: 'never', environment: 'staging' });
    expect(answer.status).toBe(422);
    expect(answer.json).toEqual(
      problem('value_error', ['idempotencyKey'], 'idempotencyKey must have 1 to 255 characters'),
    );
    expect(await countTenants(world)).toBe(before);
  });

  test.for([
    ['255 characters', 'k'.repeat(255)],
    ['quotes and commas', '"a", "b"; c=\'d\' --'],
    ['beyond ASCII', 'cl\u00e9'],
  ] as const)('a key of %s is taken', async ([what, key]) => {
    const body = { name: `key of ${what}`, environment: 'staging' };
    const first = await post(gateway, key, body);
    expect(first.status).toBe(201);
    expect(await post(other, key, body)).toMatchObject({ status: 201, json: first.json });
  });

  test('a replay may wait, or not wait, unlike the first', async () => {
    const body = { name: 'waited for', environment: 'staging' };
    const accepted = await post(gateway, 'wait', body, { Prefer: 'respond-async' });
    expect(accepted.status).toBe(202);
    const { id, tenant_id: tenantId } = accepted.json as { id: string; tenant_id: string };
    const made = await post(other, 'wait', body);
    expect(made).toMatchObject({ status: 201, json: { tenant_id: tenantId, status: 'active' } });
    const ended = await post(other, 'wait', body, { Prefer: 'respond-async' });
    expect(ended).toMatchObject({ status: 202, json: { id, status: 'succeeded' } });
  });
});
