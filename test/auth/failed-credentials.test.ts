import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { addressGroup } from '../../src/auth/failed-credentials.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { bearer, startWithTokens } from '../tokens.ts';

let world: World;
let first: TestGateway;
let second: TestGateway;
const settings = { RATE_LIMIT_FAILED_CREDENTIALS_PER_MINUTE: '3', TRUST_PROXY: '1' };

beforeAll(async () => {
  world = await createWorld();
  first = await startWithTokens(world, settings);
  second = await startWithTokens(world, settings);
});
afterAll(() => world.close());

const viewer = { query: '{ viewer { kind } }' };
const from = (
  address: string,
  headers: Record<string, string> = { Authorization: 'Bearer x' },
) => ({
  ...headers,
  'X-Forwarded-For': address,
});
const ask = (at: TestGateway, headers: Record<string, string>) =>
  at.post('/graphql', viewer, headers);

describe('bad credentials', () => {
  test('are limited by client address, over all instances, and nobody else is', async () => {
    const good = await bearer();
    expect((await ask(first, from('192.0.2.1', good))).status).toBe(200);
    const statuses: number[] = [];
    for (const at of [first, second, first, second, first]) {
      statuses.push((await ask(at, from('192.0.2.1'))).status);
    }
    expect(statuses).toEqual([401, 401, 401, 429, 429]);

    const refused = await ask(second, from('192.0.2.1'));
    expect(refused.json).toMatchObject({ errors: [{ extensions: { code: 'RATE_LIMITED' } }] });
    const seconds = Number(refused.headers.get('retry-after'));
    expect(seconds).toBeGreaterThanOrEqual(1);
    expect(seconds).toBeLessThanOrEqual(60);
    const rest = await second.get('/api/v1/tenants/x', from('192.0.2.1'));
    expect([404, 429]).toContain(rest.status);
    const list = await second.get('/api/tenants', from('192.0.2.1', { 'X-API-Key': 'x' }));
    expect(list).toMatchObject({ status: 429, json: { error: { code: 'RATE_LIMITED' } } });
    expect(list.headers.get('retry-after')).not.toBeNull();

    // What had proved good here stays good; the next address is another's.
    expect((await ask(first, from('192.0.2.1', good))).status).toBe(200);
    // What is new to this instance has to wait, even if it is good.
    expect((await ask(first, from('192.0.2.1', await bearer({ sub: 'new' })))).status).toBe(429);
    expect((await ask(first, from('192.0.2.2'))).status).toBe(401);
  });

  test('that are none, and good ones, do not count', async () => {
    for (let time = 0; time < 6; time += 1) {
      expect((await ask(first, from('192.0.2.3', {}))).status).toBe(401);
      expect(
        (await ask(first, from('192.0.2.3', await bearer({ jti: String(time) })))).status,
      ).toBe(200);
    }
    expect((await ask(first, from('192.0.2.3'))).status).toBe(401);
  });

  test('of one IPv6 customer count together', async () => {
    for (const [index, status] of [401, 401, 401, 429].entries()) {
      expect((await ask(first, from(`2001:db8:1:2::${index + 1}`))).status).toBe(status);
    }
    expect((await ask(first, from('2001:db8:1:3::1'))).status).toBe(401);
  });
});

test.for([
  ['192.0.2.1', '192.0.2.1'],
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['2001:db8::1', '2001:db8:0:0::/64'],
  ['2001:DB8:0:0:ffff::1', '2001:db8:0:0::/64'],
  ['1:2:3:4:5:6:7:8', '1:2:3:4::/64'],
  ['::1', '0:0:0:0::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ['::', '0:0:0:0::/64'],
  [null, 'unknown'],
  ['', 'unknown'],
  ["x'; DROP TABLE", 'unknown'],
  ['1'.repeat(1000), 'unknown'],
] as const)('addressGroup(%j) is %s', ([address, group]) => {
  expect(addressGroup(address)).toBe(group);
});
