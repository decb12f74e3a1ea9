import { createClient } from 'graphql-ws';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { clockToleranceSeconds } from '../../src/crypto/tokens.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { expectOpen, progressDocument, socketUrl } from '../progress/watch.ts';
import { bearer, startWithTokens } from '../tokens.ts';

let world: World;
let gateway: TestGateway;
let other: TestGateway;
let admin: { Authorization: string };
let count = 0;

beforeAll(async () => {
  world = await createWorld();
  gateway = await startWithTokens(world);
  other = await startWithTokens(world);
  admin = await bearer({ roles: ['platform-admin'] });
});
afterAll(() => world.close());

interface Subject {
  readonly tenantId: string;
  readonly apiKey: string;
}

async function run<T>(query: string, variables: object = {}, at = gateway): Promise<T> {
  const { json } = await at.post('/graphql', { query, variables }, admin);
  const { data, errors } = json as { data: T; errors?: unknown };
  if (errors !== undefined) throw new Error(JSON.stringify(errors));
  return data;
}

async function newSubject(): Promise<Subject> {
  const { createTenant } = await run<{
    createTenant: { tenant: { id: string }; apiKey: string };
  }>(
    `mutation { createTenant(input: { name: "streams ${(count += 1)}" }) {
      tenant { id } apiKey } }`,
  );
  const { tenant, apiKey } = createTenant;
  return { tenantId: tenant.id, apiKey };
}

/** Opens a stream that nothing happens on; what it tells at its end. */
type Open = (at: TestGateway, credential: string) => Promise<{ end: Promise<string> }>;

// A key that is not used yet is waited for, up to a minute.
const waiting = { idempotencyKey: 'a key that nobody uses' };

const overWebSocket: Open = async (at, credential) => {
  const client = createClient({
    url: socketUrl(at),
    webSocketImpl: WebSocket,
    retryAttempts: 0,
    lazy: true,
    connectionParams: { authorization: `Bearer ${credential}` },
  });
  const told: string[] = [];
  const end = new Promise<string>((resolve) => {
    client.on('closed', (event) => {
      resolve(`${told.join('')} ${(event as CloseEvent).code}`);
    });
  });
  client.subscribe(
    { query: progressDocument, variables: waiting },
    {
      next: (result) => told.push(JSON.stringify(result)),
      error: (error) => told.push(JSON.stringify(error)),
      complete: () => undefined,
    },
  );
  return Promise.resolve({ end });
};

const overServerSentEvents: Open = async (at, credential) => {
  const response = await fetch(`${at.url}/graphql`, {
    method: 'POST',
    headers: {
      'Content-Type': 'application/json',
      Accept: 'text/event-stream',
      Authorization: `Bearer ${credential}`,
    },
    body: JSON.stringify({ query: progressDocument, variables: waiting }),
  });
  expect(response.status).toBe(200);
  return { end: response.text() };
};

const ways = [
  ['WebSocket', overWebSocket, /UNAUTHENTICATED.* 4403$|^ 4403$/],
  ['server-sent events', overServerSentEvents, /UNAUTHENTICATED/],
] as const;

const causes: readonly (readonly [
  what: string,
  credential: (subject: Subject) => Promise<string>,
  happen: (subject: Subject) => Promise<unknown>,
])[] = [
  [
    'its token expires',
    async () => {
      const exp = Math.floor(Date.now() / 1000) - clockToleranceSeconds + 3;
      const { Authorization } = await bearer({ roles: ['platform-admin'], exp });
      return Authorization.slice('Bearer '.length);
    },
    () => Promise.resolve(),
  ],
  [
    'its key is revoked on another instance',
    ({ apiKey }) => Promise.resolve(apiKey),
    async ({ tenantId }) => {
      const { tenant } = await run<{ tenant: { apiKeys: { id: string }[] } }>(
        'query ($id: ID!) { tenant(id: $id) { apiKeys { id } } }',
        { id: tenantId },
      );
      const input = { id: tenantId, apiKeyId: tenant.apiKeys[0]?.id };
      await run(
        `mutation ($input: RevokeTenantApiKeyInput!) {
          revokeTenantApiKey(input: $input) { userErrors { code } } }`,
        { input },
        other,
      );
    },
  ],
  [
    'its tenant is deleted on another instance',
    ({ apiKey }) => Promise.resolve(apiKey),
    ({ tenantId }) =>
      run(
        'mutation ($id: ID!) { deleteTenant(input: { id: $id }) { userErrors { code } } }',
        { id: tenantId },
        other,
      ),
  ],
];

describe.for(ways)('a stream over %s', ([, open, ended]) => {
  test.for(causes)('ends when %s', async ([, credential, happen]) => {
    const subject = await newSubject();
    const stream = await open(gateway, await credential(subject));
    await expectOpen(gateway, 1);
    await happen(subject);
    expect(await stream.end).toMatch(ended);
    await expectOpen(gateway, 0); // and frees what it held
  });
});

test('GET /api/operations/{id}/events ends with an error event', async () => {
  const { tenantId, apiKey } = await newSubject();
  const id = '00000000-0000-4000-8000-00000000feed';
  await world.query(
    `INSERT INTO control_plane.operations (id, kind, status, tenant_id, partner, actor, deadline_at)
     VALUES ($1, 'MIGRATE', 'RUNNING', $2, 'platform', 'x', now() + interval '1 hour')`,
    [id, tenantId],
  );
  const response = await fetch(`${gateway.url}/api/operations/${id}/events`, {
    headers: { 'X-API-Key': apiKey },
  });
  expect(response.status).toBe(200);
  await expectOpen(gateway, 1);
  await world.query('UPDATE control_plane.api_keys SET revoked_at = now() WHERE tenant_id = $1', [
    tenantId,
  ]);
  expect(await response.text()).toContain('event: error\ndata: {"error":{"code":"UNAUTHENTICATED"');
  await expectOpen(gateway, 0);
  await world.query(
    "UPDATE control_plane.operations SET status = 'SUCCEEDED', finished_at = now() WHERE id = $1",
    [id],
  );
});

describe('connection_init', () => {
  const opened = async (payload: object, headers: Record<string, string> = {}): Promise<string> => {
    const socket = new WebSocket(socketUrl(gateway), 'graphql-transport-ws', { headers });
    return new Promise((resolve) => {
      socket.on('open', () => {
        socket.send(JSON.stringify({ type: 'connection_init', payload }));
      });
      socket.on('message', (message: Buffer) => {
        resolve((JSON.parse(message.toString()) as { type: string }).type);
        socket.terminate();
      });
      socket.on('close', (code) => {
        resolve(String(code));
      });
    });
  };

  test('takes a token, a key, and the headers of the upgrade; nothing else', async () => {
    const { apiKey } = await newSubject();
    const { Authorization: authorization } = admin;
    expect(await opened({ authorization })).toBe('connection_ack');
    expect(await opened({ authorization: `Bearer ${apiKey}` })).toBe('connection_ack');
    expect(await opened({}, admin)).toBe('connection_ack');
    expect(await opened({}, { 'X-API-Key': apiKey })).toBe('connection_ack');
    expect(await opened({})).toBe('4403');
    expect(await opened({ authorization: 'Bearer x' })).toBe('4403');
    expect(await opened({ authorization: 7 })).toBe('4403');
    expect(await opened({ authorization: `Bearer ${'x'.repeat(100_000)}` })).toBe('4403');
    expect(await opened({ authorization }, { 'X-API-Key': apiKey })).toBe('4403');
  });

  test('a query after the key was revoked is refused at once', async () => {
    const { tenantId, apiKey } = await newSubject();
    const client = createClient({
      url: socketUrl(gateway),
      webSocketImpl: WebSocket,
      retryAttempts: 0,
      lazy: false,
      onNonLazyError: () => undefined,
      connectionParams: { authorization: `Bearer ${apiKey}` },
    });
    const ask = async (): Promise<unknown> => {
      const results = client.iterate({ query: '{ viewer { kind } }' });
      try {
        return (await results.next()).value;
      } catch (error) {
        return error;
      }
    };
    expect(await ask()).toEqual({ data: { viewer: { kind: 'TENANT' } } });
    await world.query('UPDATE control_plane.api_keys SET revoked_at = now() WHERE tenant_id = $1', [
      tenantId,
    ]);
    expect(JSON.stringify(await ask())).toMatch(/UNAUTHENTICATED|4403/);
    await client.dispose();
  });
});
