import { createClient as createSseClient } from 'graphql-sse';
import { createClient as createWebSocketClient } from 'graphql-ws';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { socketUrl } from '../progress/watch.ts';

let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({ settings: { INTROSPECTION: 'off' } });
});
afterAll(() => world.close());

const query = '{ __schema { queryType { name } } }';

/** The first result of a stream, or what it was refused with. */
async function firstOf(results: AsyncIterableIterator<unknown>): Promise<string> {
  try {
    return JSON.stringify((await results.next()).value);
  } catch (error) {
    return JSON.stringify(error);
  }
}

const ways: readonly (readonly [string, () => Promise<string>])[] = [
  ['POST /graphql', async () => (await gateway.post('/graphql', { query })).text],
  [
    'GET /graphql',
    async () => (await gateway.get(`/graphql?query=${encodeURIComponent(query)}`)).text,
  ],
  [
    'server-sent events',
    async () => {
      const client = createSseClient({ url: `${gateway.url}/graphql`, retryAttempts: 0 });
      const first = await firstOf(client.iterate({ query }));
      client.dispose();
      return first;
    },
  ],
  [
    'WebSocket',
    async () => {
      const url = socketUrl(gateway);
      const client = createWebSocketClient({ url, webSocketImpl: WebSocket, retryAttempts: 0 });
      const first = await firstOf(client.iterate({ query }));
      await client.dispose();
      return first;
    },
  ],
];

describe('INTROSPECTION=off', () => {
  test.for(ways)('holds over %s', async ([, ask]) => {
    const told = await ask();
    expect(told).toContain('introspection');
    expect(told).not.toContain('queryType":{"name');
  });
});
