import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createClient, CloseCode } from 'graphql-ws';
import { getIntrospectionQuery } from 'graphql';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket, type ClientOptions } from 'ws';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { makeEndedOperation } from '../progress/rows.ts';
import { expectOpen, openSubscriptions, progressDocument, socketUrl } from '../progress/watch.ts';

let world: World;
let gateway: TestGateway;
const allowedOrigin = 'https://portal.example.com';
const sockets = new Set<WebSocket>();

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({
    settings: { CORS_ORIGINS: allowedOrigin, PUBLIC_URL: 'https://tenants.example.com' },
    streamTimes: { initMs: 300, keepAliveMs: 500, closeMs: 300 },
  });
});
afterAll(() => world.close());
afterEach(async () => {
  for (const socket of sockets) socket.terminate();
  sockets.clear();
  await expectOpen(gateway, 0);
});

const waiting = `subscription { tenantProvisioningProgress(idempotencyKey: "never used") { sequence } }`;

interface Message {
  readonly id?: string;
  readonly type: string;
  readonly payload?: unknown;
}

/** A socket of which the test writes every message itself. */
async function open(
  options: ClientOptions = {},
  protocols: readonly string[] = ['graphql-transport-ws'],
) {
  const socket = new WebSocket(socketUrl(gateway), [...protocols], options);
  sockets.add(socket);
  const received: Message[] = [];
  socket.on('message', (data) => received.push(JSON.parse((data as Buffer).toString()) as Message));
  const closed = new Promise<number>((resolve) => socket.once('close', resolve));
  await once(socket, 'open');
  return {
    socket,
    received,
    closed,
    send: (message: unknown) => {
      socket.send(JSON.stringify(message));
    },
    /** The messages of one operation, once one of them is of this type. */
    messages: async (id: string, type: string) => {
      const mine = (): Message[] => received.filter((message) => message.id === id);
      await expect.poll(() => mine().map((message) => message.type)).toContain(type);
      return mine();
    },
  };
}

/** The same after `connection_init`. */
async function connected(options: ClientOptions = {}) {
  const connection = await open(options);
  connection.send({ type: 'connection_init' });
  await expect.poll(() => connection.received).toEqual([{ type: 'connection_ack' }]);
  connection.received.length = 0;
  return connection;
}

/** The status with which an upgrade is refused; 101 when it is not. */
async function upgradeStatus(headers: Record<string, string>, path = '/graphql'): Promise<number> {
  const socket = new WebSocket(
    `${gateway.url.replace('http', 'ws')}${path}`,
    'graphql-transport-ws',
    {
      headers,
    },
  );
  sockets.add(socket);
  return new Promise((resolve) => {
    socket.on('error', () => undefined);
    socket.once('open', () => resolve(101));
    socket.once('unexpected-response', (_request, response) => resolve(response.statusCode ?? 0));
  });
}

async function stillServes(): Promise<void> {
  expect(await gateway.graphql('{ viewer { kind } }')).toEqual({ viewer: { kind: 'OPERATOR' } });
}

describe('WebSocket /graphql: operations', () => {
  test('queries and mutations, with the user errors and top-level errors of HTTP', async () => {
    const client = createClient({ url: socketUrl(gateway), webSocketImpl: WebSocket });
    const run = async (query: string) => (await client.iterate({ query }).next()).value as unknown;
    expect(await run('{ viewer { subject } }')).toEqual({
      data: { viewer: { subject: 'local-operator' } },
    });
    expect(
      await run(
        'mutation { createTenant(input: { name: "", slug: "-" }) { userErrors { code field } } }',
      ),
    ).toEqual({
      data: {
        createTenant: {
          userErrors: [
            { code: 'INVALID', field: ['input', 'name'] },
            { code: 'INVALID', field: ['input', 'slug'] },
          ],
        },
      },
    });
    expect(await run('{ tenant { id } }')).toEqual({
      data: { tenant: null },
      errors: [
        {
          message: 'Give exactly one of id, number, slug and domain',
          path: ['tenant'],
          locations: [{ line: 1, column: 3 }],
          extensions: { code: 'BAD_USER_INPUT' }, // and no `http`
        },
      ],
    });
    await client.dispose();
  });

  test('the limits on documents hold, and a document that is none is refused', async () => {
    const { messages, send } = await connected();
    const deep = `{ tenants { nodes ${'{ operations { nodes { tenant '.repeat(4)} { id } ${'} } }'.repeat(4)} } }`;
    const documents = {
      deep,
      nested: `{ ${'a { '.repeat(5000)} ${'} '.repeat(5000)} }`,
      aliases: `{ ${Array.from({ length: 31 }, (_, i) => `a${i}: viewer { kind }`).join(' ')} }`,
      long: `{ viewer { kind } } #${'x'.repeat(102_400)}`,
      costly:
        '{ tenants(first: 100) { nodes { operations(first: 100) { nodes { steps { name } } } } } }',
      broken: '{ viewer',
      unknown: '{ nothing }',
      deepSubscription: `subscription { tenantProvisioningProgress(tenantId: "a") { ...a } }`,
    };
    for (const [id, query] of Object.entries(documents)) {
      send({ id, type: 'subscribe', payload: { query } });
      const [message] = await messages(id, id === 'costly' ? 'next' : 'error');
      const text = JSON.stringify(message);
      expect(text, id).toMatch(/"message":"[^"]+/);
      expect(text, id).not.toContain('"http"');
      if (!['unknown', 'broken', 'deepSubscription'].includes(id)) {
        expect(text, id).toContain('BAD_USER_INPUT');
      }
    }
    await stillServes();
  });

  test('subscriptions whose events are all there: all of them come, and the end behind them', async () => {
    const { id: operationId } = await makeEndedOperation(world);
    const { messages, send } = await connected();
    const ids = Array.from({ length: 20 }, (_, index) => String(index));
    for (const id of ids) {
      send({
        id,
        type: 'subscribe',
        payload: { query: progressDocument, variables: { operationId } },
      });
    }
    for (const id of ids) {
      const told = (await messages(id, 'complete')).map(({ type }) => type);
      expect(told).toEqual(['next', 'next', 'next', 'complete']);
    }
  });

  test('at most 100 at once on a connection; what ends makes room', async () => {
    const { messages, send, received } = await connected();
    for (let id = 1; id <= 101; id += 1) {
      send({ id: String(id), type: 'subscribe', payload: { query: waiting } });
    }
    const [refused] = await messages('101', 'error');
    expect(refused?.payload).toMatchObject([{ extensions: { code: 'RATE_LIMITED' } }]);
    await expectOpen(gateway, 100);
    send({ id: '7', type: 'complete' });
    await expectOpen(gateway, 99);
    send({ id: 'query', type: 'subscribe', payload: { query: '{ viewer { kind } }' } });
    await messages('query', 'complete');
    expect(received.filter(({ type }) => type === 'error')).toHaveLength(1);
  });
});

describe('WebSocket /graphql: who goes away frees everything', () => {
  test('by completing, by closing, by vanishing', async () => {
    const first = await connected();
    const second = await connected();
    const third = await connected();
    for (const { send } of [first, second, third]) {
      send({ id: 'a', type: 'subscribe', payload: { query: waiting } });
    }
    await expectOpen(gateway, 3);
    first.send({ id: 'a', type: 'complete' });
    await expectOpen(gateway, 2);
    second.socket.close();
    await expectOpen(gateway, 1);
    third.socket.terminate();
    await expectOpen(gateway, 0);
  });

  test('by completing before it has begun', async () => {
    const { messages, send } = await connected();
    send({ id: 'a', type: 'subscribe', payload: { query: waiting } });
    send({ id: 'a', type: 'complete' });
    send({ id: 'b', type: 'subscribe', payload: { query: '{ viewer { kind } }' } });
    await messages('b', 'complete');
    await expectOpen(gateway, 0);
  });

  test('by not answering pings', async () => {
    const silent = await connected({ autoPong: false });
    silent.send({ id: 'a', type: 'subscribe', payload: { query: waiting } });
    await expectOpen(gateway, 1);
    expect(await silent.closed).toBe(1006);
    await expectOpen(gateway, 0);
  });
});

describe('WebSocket /graphql: connection_init', () => {
  test('has to come in time', async () => {
    const { closed } = await open();
    expect(await closed).toBe(CloseCode.ConnectionInitialisationTimeout);
  });

  test('has to come first', async () => {
    const { closed, send } = await open();
    send({ id: 'a', type: 'subscribe', payload: { query: '{ viewer { kind } }' } });
    expect(await closed).toBe(CloseCode.Unauthorized);
  });

  test('has to come once', async () => {
    const { closed, send } = await connected();
    send({ type: 'connection_init' });
    expect(await closed).toBe(CloseCode.TooManyInitialisationRequests);
  });

  test.each([
    ['bad', { authorization: 'Bearer not.a.token' }],
    ['no text', { authorization: { Bearer: 'x' } }],
  ])('with credentials that are %s closes with 4403', async (_name, payload) => {
    const { closed, send } = await open();
    send({ type: 'connection_init', payload });
    expect(await closed).toBe(CloseCode.Forbidden);
  });

  test('credentials in the headers of the upgrade are not ignored', async () => {
    const { closed, send } = await open({ headers: { authorization: 'Bearer not.a.token' } });
    send({ type: 'connection_init' });
    expect(await closed).toBe(CloseCode.Forbidden);
  });
});

describe('WebSocket /graphql: who may connect', () => {
  test.each([
    ['no origin', {}, 101],
    ['a page of this gateway', { origin: 'self' }, 101],
    ['a page of its public address', { origin: 'https://tenants.example.com' }, 101],
    ['a page of a listed origin', { origin: allowedOrigin }, 101],
    ['any other page', { origin: 'https://evil.example.com' }, 403],
    ['a page of a listed host, without encryption', { origin: 'http://portal.example.com' }, 403],
    ['a page of this machine on another port', { origin: 'http://127.0.0.1:1' }, 403],
    ['a page without an origin of its own', { origin: 'null' }, 403],
    ['another Host, in open mode', { host: 'tenants.example.com' }, 403],
  ])('%s', async (_name, headers, status) => {
    const { origin } = headers as { origin?: string };
    const sent = origin === 'self' ? { origin: gateway.url } : headers;
    expect(await upgradeStatus(sent as Record<string, string>)).toBe(status);
  });

  test('nowhere else', async () => {
    expect(await upgradeStatus({}, '/')).toBe(404);
    expect(await upgradeStatus({}, '/api/tenants')).toBe(404);
  });

  test('without the protocol graphql-transport-ws it is closed with 4406', async () => {
    const { closed } = await open({}, []);
    expect(await closed).toBe(CloseCode.SubprotocolNotAcceptable);
  });

  test('a request that offers another upgrade is served as it is', async () => {
    const socket = await raw(
      'GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n',
    );
    const [answer] = (await once(socket, 'data')) as [Buffer];
    expect(answer.toString()).toMatch(/^HTTP\/1\.1 200 /);
    socket.destroy();
  });
});

/** A TCP connection to the gateway on which this has been written. */
async function raw(text: string, { url } = gateway): Promise<Socket> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.write(text);
  return socket;
}

/** Resolves when a connection has ended, however it did. */
function closing(socket: Socket): Promise<unknown> {
  return new Promise((resolve) => socket.once('close', resolve));
}

const handshake =
  'GET /graphql HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
  'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n' +
  'Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n';

describe('WebSocket /graphql: rubbish', () => {
  test.each([
    ['no JSON', 'hello'],
    ['nothing', ''],
    ['half a message', '{"type":"subscribe"'],
    ['another JSON', '[1, 2, 3]'],
    ['null', 'null'],
    ['an unknown type', '{"type":"explode"}'],
    ['a type that is an object', '{"type":{}}'],
    ['a subscribe without an id', '{"type":"subscribe","payload":{"query":"{ viewer { kind } }"}}'],
    ['a subscribe without a query', '{"id":"a","type":"subscribe","payload":{}}'],
    [
      'variables that are a text',
      '{"id":"a","type":"subscribe","payload":{"query":"{a}","variables":"x"}}',
    ],
    ['JSON nested too deep', '['.repeat(500_000)],
    ['binary', Buffer.from([0xff, 0xfe, 0x00, 0x80])],
  ])('%s closes with 4400', async (_name, rubbish) => {
    const { closed, socket } = await connected();
    socket.send(rubbish);
    expect(await closed).toBe(CloseCode.BadRequest);
    await stillServes();
  });

  test('who does not answer a closing is cut off', async () => {
    const socket = await raw(handshake);
    const closed = closing(socket);
    socket.write(frame({ type: 'nonsense' }));
    socket.resume();
    await closed;
  });

  test('a message over 1 MiB closes with 1009', async () => {
    const { closed, socket } = await connected();
    socket.send(`"${'x'.repeat(1024 * 1024)}"`);
    expect(await closed).toBe(1009);
    await stillServes();
  });

  test.each([
    ['bytes that are no frames', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['a frame without a mask', Buffer.from([0x81, 0x02, 0x7b, 0x7d])],
    ['a frame with reserved bits', Buffer.from([0xf1, 0x80, 0, 0, 0, 0])],
    ['a text that is no UTF-8', Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28])],
    [
      'a frame longer than anything',
      Buffer.from([0x81, 0xff, 255, 255, 255, 255, 255, 255, 255, 255]),
    ],
  ])('%s: the connection ends', async (_name, bytes) => {
    const socket = await raw(handshake);
    await once(socket, 'data');
    socket.write(bytes);
    socket.resume();
    await closing(socket);
    await stillServes();
  });

  test('a connection reset in the middle of the handshake', async () => {
    const socket = await raw(handshake.slice(0, -2));
    socket.resetAndDestroy();
    await stillServes();
  });

  test('leaves nothing in the log above debug', () => {
    const loud = gateway
      .logs()
      .split('\n')
      .filter((line) => /"level":[456]0/.test(line));
    expect(loud).toEqual([]);
  });
});

describe('WebSocket /graphql: a client that never reads', () => {
  test('is cut off when too much waits for it', async () => {
    const patient = await world.start(); // pings too seldom to notice in time
    const socket = await raw(handshake, patient);
    await once(socket, 'data');
    const closed = closing(socket);
    const query = getIntrospectionQuery();
    socket.write(frame({ type: 'connection_init' }));
    await once(socket, 'data');
    socket.pause();
    for (let id = 0; id < 300; id += 1) {
      socket.write(frame({ id: String(id), type: 'subscribe', payload: { query } }));
    }
    await expect.poll(() => patient.logs(), { timeout: 10_000 }).toContain('"code":1006');
    socket.resume();
    await closed;
    await patient.close();
  });
});

describe('WebSocket /graphql: a client that stops reading for a while', () => {
  test('is closed with 1013, which it finds behind what waits for it', async () => {
    const patient = await world.start({ streamTimes: { closeMs: 20_000 } });
    const socket = new WebSocket(socketUrl(patient), 'graphql-transport-ws');
    sockets.add(socket);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    await once(socket, 'open');
    socket.send('{"type":"connection_init"}');
    await once(socket, 'message');
    socket.send(JSON.stringify({ id: 'a', type: 'subscribe', payload: { query: waiting } }));
    await expectOpen(patient, 1);
    socket.pause();
    const query = getIntrospectionQuery();
    for (let id = 0; id < 300; id += 1) {
      socket.send(JSON.stringify({ id: String(id), type: 'subscribe', payload: { query } }));
    }
    await expectOpen(patient, 0); // at once, not when it has gone
    socket.resume();
    expect(await closed).toBe(1013);
    await patient.close();
  });
});

describe('WebSocket /graphql: a client that asks for too much', () => {
  test('10,000 subscriptions on one connection: 100 are open, each other one is refused', async () => {
    const { received, send } = await connected();
    for (let id = 1; id <= 10_000; id += 1) {
      send({ id: String(id), type: 'subscribe', payload: { query: waiting } });
    }
    const refused = (): number => received.filter(({ type }) => type === 'error').length;
    await expect.poll(refused, { timeout: 20_000 }).toBe(9_900);
    expect(JSON.stringify(received.at(-1))).toContain('RATE_LIMITED');
    await expectOpen(gateway, 100);
    await stillServes();
  });

  test('1,000 of one caller over all connections; the next is refused, on every transport', async () => {
    const crowd = await Promise.all(Array.from({ length: 10 }, () => connected()));
    for (const { send } of crowd) {
      for (let id = 1; id <= 100; id += 1) {
        send({ id: String(id), type: 'subscribe', payload: { query: waiting } });
      }
    }
    await expectOpen(gateway, 1000);
    const { messages, send } = await connected();
    send({ id: 'more', type: 'subscribe', payload: { query: waiting } });
    const [refused] = await messages('more', 'complete');
    expect(refused?.payload).toMatchObject({ errors: [{ extensions: { code: 'RATE_LIMITED' } }] });
    const accept = { Accept: 'text/event-stream' };
    const answer = await gateway.post('/graphql', { query: waiting }, accept);
    expect(answer.status).toBe(429);
    crowd[0]!.socket.terminate();
    await expectOpen(gateway, 900);
    send({ id: 'again', type: 'subscribe', payload: { query: waiting } });
    await expectOpen(gateway, 901);
  });
});

/** A masked text frame, as a client has to send it. */
function frame(message: object): Buffer {
  const payload = Buffer.from(JSON.stringify(message));
  const header = Buffer.from([0x81, 0xfe, payload.length >> 8, payload.length & 255, 0, 0, 0, 0]);
  return Buffer.concat([header, payload]); // a mask of zeros changes nothing
}

describe('closing the gateway', () => {
  test('tells its sockets to go elsewhere, and waits for none that does not', async () => {
    const stopping = await world.start({ streamTimes: { closeMs: 300 } });
    const ended: number[] = [];
    for (const answers of [true, false]) {
      const socket = new WebSocket(socketUrl(stopping), 'graphql-transport-ws');
      sockets.add(socket);
      socket.once('close', (code) => ended.push(code));
      await once(socket, 'open');
      if (!answers) socket.pause();
    }
    const client = createClient({
      url: socketUrl(stopping),
      webSocketImpl: WebSocket,
      retryAttempts: 0,
    });
    const subscription = client.iterate({ query: waiting });
    const next = subscription.next().catch((error: unknown) => error);
    await expectOpen(stopping, 1);
    await stopping.close();
    expect(await next).toMatchObject({ code: 1001 });
    expect(ended).toContain(1001);
    expect(openSubscriptions(stopping)).toBe(0);
  });
});
