/** What one request of a client makes of our log, and of the answer. */
import { createClient } from 'graphql-ws';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { socketUrl } from '../progress/watch.ts';
import { makeTenant } from '../provisioning/tenants.ts';
import { exchange } from './wire.ts';

let world: World;
let gateway: TestGateway;
let id: string;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({ settings: { TRUST_PROXY: '1' } });
  ({ id } = (await makeTenant(gateway, { name: 'Sizes', slug: 'sizes' })).tenant);
});
afterAll(() => world.close());

const long = 'x'.repeat(900_000);

/** What is logged meanwhile, line by line. */
async function logged(work: () => Promise<unknown>): Promise<string[]> {
  const before = gateway.logs().length;
  await work();
  return gateway.logs().slice(before).split('\n');
}

function expectShort(lines: readonly string[]): void {
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThan(5_000);
}

describe('the log', () => {
  test('holds no long name of an operation', async () => {
    const client = createClient({ url: socketUrl(gateway), webSocketImpl: WebSocket });
    const query = '{ viewer { kind } }';
    const lines = await logged(async () => {
      await client
        .iterate({ query, operationName: long })
        .next()
        .catch(() => undefined);
      await gateway.post('/graphql', { query, operationName: long });
    });
    await client.dispose();
    expect(lines.join('\n')).toContain('websocket operation');
    expectShort(lines);
  });

  test('holds no long path, id, address or header', async () => {
    const headers = {
      'X-Request-Id': 'x'.repeat(3_000),
      'X-Forwarded-For': 'x'.repeat(3_000),
      'User-Agent': 'x'.repeat(3_000),
    };
    const path = `/${'x'.repeat(6_000)}`;
    const lines = await logged(() => exchange(gateway.url, { path, headers }));
    expect(lines.join('\n')).toContain('"status":404');
    expectShort(lines);
  });

  test('holds no long address of a WebSocket client, and neither does the audit log', async () => {
    const headers = { 'X-Forwarded-For': 'x'.repeat(3_000), Authorization: 'Bearer x' };
    const lines = await logged(
      () =>
        new Promise((resolve) => {
          const socket = new WebSocket(socketUrl(gateway), 'graphql-transport-ws', { headers });
          socket.once('open', () => {
            socket.send('{"type":"connection_init"}');
          });
          socket.once('close', resolve);
        }),
    );
    expect(lines.join('\n')).toContain('websocket credentials refused');
    expectShort(lines);
    await exchange(gateway.url, {
      method: 'POST',
      path: `/api/tenants/${id}/api-key/rotate`,
      headers: { 'X-Forwarded-For': 'x'.repeat(3_000) },
    });
    const rows = await world.query<{ ip_address: string | null }>(
      'SELECT ip_address FROM control_plane.audit_log WHERE length(ip_address) > 64',
    );
    expect(rows).toEqual([]);
  });
});

interface Refused {
  readonly userErrors: readonly { readonly message: string; readonly field: readonly string[] }[];
}

const rule =
  'features must be out of basic, analytics, reporting, advanced_security, api_access, webhooks';

describe('an answer', () => {
  const update = async (features: readonly string[]) => {
    const answer = await gateway.post('/graphql', {
      query: `mutation ($id: ID!, $features: [String!]) {
        updateTenant(input: { id: $id, settings: { features: $features } }) {
          userErrors { message field } } }`,
      variables: { id, features },
    });
    const { data } = answer.json as { data: { updateTenant: Refused } };
    return { ...data.updateTenant, bytes: answer.text.length };
  };

  test('does not repeat a problem for each of 50,000 features', async () => {
    for (const count of [101, 50_000, 200_000]) {
      const { bytes, userErrors } = await update(Array.from({ length: count }, () => 'x'));
      const message = 'features must have at most 100 entries';
      expect(userErrors).toEqual([{ message, field: ['input', 'settings', 'features'] }]);
      expect(bytes).toBeLessThan(1_000);
    }
  });

  test('names ten unknown features, and says how many more there are', async () => {
    const { userErrors } = await update(['basic', ...Array.from({ length: 99 }, () => 'x')]);
    expect(userErrors).toHaveLength(11);
    expect(userErrors[0]).toEqual({
      message: rule,
      field: ['input', 'settings', 'features', '1'],
    });
    expect(userErrors[10]).toEqual({
      message: `${rule}; 89 more are not`,
      field: ['input', 'settings', 'features'],
    });
  });

  test('takes a hundred features', async () => {
    expect(await update(Array.from({ length: 100 }, () => 'basic'))).toMatchObject({
      userErrors: [],
    });
  });

  test.for([
    ['/api/v1/tenants', 422],
    ['/api/tenants', 400],
    ['/api/tenants/batch', 400],
  ] as const)('of %s is not far longer than its request', async ([path, status]) => {
    for (const count of [5_000, 10_001, 200_000]) {
      const list = Array.from({ length: count }, () => 1);
      const bodies = [
        { tenant_name: 'a', domain: 'a.com', schema_name: 'a', settings: { features: list } },
        { tenants: list },
        list,
      ];
      for (const body of bodies) {
        const answer = await gateway.post(path, body);
        expect(answer.status).toBe(status);
        expect(answer.text.length).toBeLessThan(20_000);
      }
    }
  });

  test('of a batch names few problems of each tenant', async () => {
    const features = Array.from({ length: 100 }, () => 'x');
    const tenants = Array.from({ length: 50 }, () => ({ name: 'a', settings: { features } }));
    const answer = await gateway.post('/graphql', {
      query: `mutation ($tenants: [CreateTenantInput!]!) {
        createTenantsBatch(input: { tenants: $tenants }) {
          batch { results { userErrors { message field } } } } }`,
      variables: { tenants },
    });
    expect(answer.status).toBe(200);
    expect(answer.text.length).toBeLessThan(200_000);
  });
});

test('a filter takes a value as often as it is given', async () => {
  const many = Array.from({ length: 70_000 }, () => 'ACTIVE');
  const answer = await gateway.post('/graphql', {
    query: `query ($many: [TenantStatus!]) {
      tenants(filter: { status: $many }) { totalCount } }`,
    variables: { many },
  });
  expect(answer.json).toEqual({ data: { tenants: { totalCount: 1 } } });
});
