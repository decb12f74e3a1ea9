import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createWorld, type Answer, type TestGateway, type World } from '../harness.ts';
import { countTenants, path } from './contract-a.ts';

const settings = { RATE_LIMIT_CREATIONS_PER_MINUTE: '3' };

let world: World;
let gateway: TestGateway;
let other: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({ settings });
  other = await world.start({ settings });
});
afterAll(() => world.close());
// The minute begins anew.
beforeEach(() => world.query('DELETE FROM control_plane.rate_limits'));

let count = 0;
const post = (at: TestGateway, body: object = {}, headers = {}): Promise<Answer> => {
  count += 1;
  return at.post(path, { name: `tenant ${count}`, environment: 'staging', ...body }, headers);
};
const create = (at: TestGateway, input: object): Promise<Answer> =>
  at.post('/graphql', {
    query: `mutation ($input: CreateTenantInput!) {
      createTenant(input: $input) { tenant { id } userErrors { code } }
    }`,
    variables: { input },
  });

/** Draft draft-ietf-httpapi-ratelimit-headers: of 3 a minute, so many are left. */
function expectLeft(answer: Answer, left: number): void {
  expect(answer.headers.get('ratelimit-policy')).toBe('"creations";q=3;w=60');
  const [, seconds] = new RegExp(`^"creations";r=${left};t=(\\d+)$`).exec(
    answer.headers.get('ratelimit') ?? '',
  ) ?? ['', ''];
  expect(Number(seconds)).toBeGreaterThanOrEqual(1);
  expect(Number(seconds)).toBeLessThanOrEqual(60);
}

function expectTooMany(answer: Answer): void {
  expect(answer.status).toBe(429);
  const seconds = Number(answer.headers.get('retry-after'));
  expect(seconds).toBeGreaterThanOrEqual(1);
  expect(seconds).toBeLessThanOrEqual(60);
  expectLeft(answer, 0);
}

const tooMany = 'More than 3 creations a minute';

describe('RATE_LIMIT_CREATIONS_PER_MINUTE=3', () => {
  test('POST /api/v1/tenants: the fourth in a minute is 429, and makes nothing', async () => {
    for (const left of [2, 1, 0]) {
      const answer = await post(gateway);
      expect(answer.status).toBe(201);
      expectLeft(answer, left);
    }
    const before = await countTenants(world);
    const refused = await post(gateway);
    expectTooMany(refused);
    expect(refused.json).toEqual({ detail: tooMany });
    expect(await countTenants(world)).toBe(before);
  });

  test('every answer to a creation says how many are left, refused input included', async () => {
    const name = 'acme';
    const made = await post(gateway, { name });
    expect(made.status).toBe(201);
    expectLeft(made, 2);
    const taken = await post(gateway, { name });
    expect(taken.status).toBe(400);
    expectLeft(taken, 1);
    const invalid = await post(gateway, { name: 'a\0' });
    expect(invalid.status).toBe(422);
    expectLeft(invalid, 0);
    expectTooMany(await post(gateway, { name: 'a\0' }));
  });

  test('Prefer: respond-async counts as well', async () => {
    const answer = await post(gateway, {}, { Prefer: 'respond-async' });
    expect(answer.status).toBe(202);
    expectLeft(answer, 2);
  });

  test('one count over GraphQL and REST, and over two gateways', async () => {
    expectLeft(await post(gateway), 2);
    const made = await create(other, { name: 'by GraphQL' });
    expect(made.json).toMatchObject({ data: { createTenant: { userErrors: [] } } });
    expectLeft(made, 1);
    expectLeft(await post(other), 0);
    const before = await countTenants(world);
    for (const at of [gateway, other]) {
      expectTooMany(await post(at));
      const refused = await create(at, { name: 'too many' });
      expectTooMany(refused);
      expect(refused.json).toEqual({
        data: { createTenant: null },
        errors: [
          {
            message: tooMany,
            locations: [{ line: 2, column: 7 }],
            path: ['createTenant'],
            extensions: { code: 'RATE_LIMITED' },
          },
        ],
      });
    }
    expect(await countTenants(world)).toBe(before);
  });

  test('Mutation.createTenant: another field that has an answer keeps it, with 200', async () => {
    for (let made = 0; made < 2; made += 1) await post(gateway);
    const answer = await gateway.post('/graphql', {
      query: `mutation {
        third: createTenant(input: { name: "third" }) { tenant { name } }
        fourth: createTenant(input: { name: "fourth" }) { tenant { name } }
      }`,
    });
    expect(answer.status).toBe(200);
    expect(answer.json).toMatchObject({
      data: { third: { tenant: { name: 'third' } }, fourth: null },
      errors: [{ path: ['fourth'], extensions: { code: 'RATE_LIMITED' } }],
    });
  });

  test('idempotent replays do not count', async () => {
    const body = { name: 'kept' };
    const headers = { 'Idempotency-Key': 'k1' };
    const first = await post(gateway, body, headers);
    expectLeft(first, 2);
    for (let replay = 0; replay < 5; replay += 1) {
      const again = await post(gateway, body, headers);
      expect(again).toMatchObject({ status: 201, json: first.json });
    }
    expectLeft(await post(gateway), 1);
  });

  test('what reads is not limited, and has no such headers', async () => {
    for (let made = 0; made < 4; made += 1) await post(gateway);
    const answer = await gateway.post('/graphql', { query: '{ tenants { totalCount } }' });
    expect(answer).toMatchObject({ status: 200, json: { data: { tenants: {} } } });
    expect(answer.headers.has('ratelimit')).toBe(false);
  });

  test('of 10 at once, 3 are made', async () => {
    const answers = await Promise.all(Array.from({ length: 10 }, () => post(gateway)));
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(3);
    const refused = answers.filter(({ status }) => status !== 201);
    for (const answer of refused) expectTooMany(answer);
  });
});

test('RATE_LIMIT_CREATIONS_PER_MINUTE=0 turns the limit off', async () => {
  const unlimited = await world.start({ settings: { RATE_LIMIT_CREATIONS_PER_MINUTE: '0' } });
  for (let made = 0; made < 4; made += 1) {
    const answer = await post(unlimited);
    expect(answer.status).toBe(201);
    expect(answer.headers.has('ratelimit')).toBe(false);
    expect(answer.headers.has('ratelimit-policy')).toBe(false);
  }
});
