import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createClient } from 'graphql-sse';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import {
  makeEndedOperation,
  makeOperation,
  writeEvents,
  type OperationRow,
} from '../progress/rows.ts';
import { expectOpen, overServerSentEvents, progressDocument } from '../progress/watch.ts';
import { exchange } from './wire.ts';

let world: World;
let gateway: TestGateway;
const sockets = new Set<Socket>();
/** One that never ends. */
let operation: OperationRow;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({ streamTimes: { stallMs: 500, keepAliveMs: 100 } });
  operation = await makeOperation(world);
});
afterAll(() => world.close());
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  await expectOpen(gateway, 0);
});

const accept = { Accept: 'text/event-stream' };

function subscribe(query: string, variables: object = {}) {
  return gateway.post('/graphql', { query, variables }, accept);
}

/** The bytes of a request for a stream of an operation's events. */
const requests: readonly (readonly [name: string, request: (id: string) => string])[] = [
  [
    'POST /graphql',
    (operationId) => {
      const body = JSON.stringify({ query: progressDocument, variables: { operationId } });
      return `POST /graphql HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
    },
  ],
  [
    'GET /graphql',
    (operationId) => {
      const query = new URLSearchParams({
        query: progressDocument,
        variables: JSON.stringify({ operationId }),
      });
      return `GET /graphql?${query.toString()} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n`;
    },
  ],
  [
    'GET /api/operations/{id}/events',
    (operationId) =>
      `GET /api/operations/${operationId}/events HTTP/1.1\r\nHost: localhost\r\n\r\n`,
  ],
];

/** A connection on which this has been sent; the test decides whether it is read. */
async function send(text: string): Promise<Socket> {
  const { hostname, port } = new URL(gateway.url);
  const socket = connect(Number(port), hostname);
  sockets.add(socket);
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.write(text);
  return socket;
}

/** What comes on a connection, up to the first match. */
async function readUntil(socket: Socket, pattern: RegExp): Promise<string> {
  let text = '';
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    text += chunk.toString();
    if (pattern.test(text)) return text;
  }
  throw new Error(`it ended before ${String(pattern)}: ${text}`);
}

describe.each(requests)('server-sent events of %s', (_name, request) => {
  test('begin at once, and keep the connection alive', async () => {
    const socket = await send(request(operation.id));
    const text = await readUntil(socket, /(:\n\n[^]*){3}/);
    expect(text).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(text).toMatch(/\r\ncontent-type: text\/event-stream\r\n/i);
    expect(text).toMatch(/\r\ncache-control: no-cache\r\n/i);
    socket.destroy();
    await expectOpen(gateway, 0);
  });

  test('a client that goes away frees the subscription', async () => {
    const politely = await send(request(operation.id));
    const rudely = await send(request(operation.id));
    await expectOpen(gateway, 2);
    politely.end();
    rudely.resetAndDestroy();
    politely.destroy();
    await expectOpen(gateway, 0);
  });

  test('a client that never reads is cut off', async () => {
    const loud = await makeOperation(world);
    await writeEvents(world, loud, { count: 3000, messageLength: 10_000 });
    const socket = await send(request(loud.id));
    socket.pause();
    await expectOpen(gateway, 1);
    // Were it buffered without end, the last events would have come here.
    const begun = process.memoryUsage().rss;
    await expectOpen(gateway, 0);
    expect(process.memoryUsage().rss - begun).toBeLessThan(100 * 1024 * 1024);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.resume();
    await closed;
  });

  test('a client that reads slowly gets everything', async () => {
    const loud = await makeOperation(world);
    await writeEvents(world, loud, { count: 250, messageLength: 40_000 });
    const socket = await send(request(loud.id));
    for (let text = ''; text.split('"create_role"').length <= 250;) {
      const [chunk] = (await once(socket, 'data')) as [Buffer];
      socket.pause();
      text += chunk.toString().replaceAll('x', ''); // its end may be half an event
      setImmediate(() => socket.resume());
    }
    socket.destroy();
  });
});

describe('GraphQL over server-sent events', () => {
  test('queries and mutations', async () => {
    const client = createClient({ url: `${gateway.url}/graphql`, retryAttempts: 0 });
    const { value } = (await client.iterate({ query: '{ viewer { kind } }' }).next()) as {
      value: unknown;
    };
    expect(value).toEqual({ data: { viewer: { kind: 'OPERATOR' } } });
    client.dispose();
  });

  test('the client of graphql-sse that stops frees the subscription', async () => {
    const results = overServerSentEvents(gateway, { operationId: operation.id });
    const next = results.next();
    await expectOpen(gateway, 1);
    await results.return?.();
    expect(await next).toMatchObject({ done: true });
    await expectOpen(gateway, 0);
  });

  test.each([
    [
      'too deep',
      `subscription { tenantProvisioningProgress(tenantId: "a") { ${'a { '.repeat(11)} b ${'}'.repeat(11)} } }`,
    ],
    [
      'too many aliases',
      `subscription { tenantProvisioningProgress(tenantId: "a") { ${Array.from({ length: 31 }, (_, i) => `a${i}: step`).join(' ')} } }`,
    ],
    ['too long', `${progressDocument} #${'x'.repeat(102_400)}`],
    ['nested without end', `subscription { ${'a { '.repeat(10_000)} }`],
  ])('a document that is %s is refused', async (_name, query) => {
    const answer = await subscribe(query);
    expect(answer.status).toBe(400);
    expect(answer.text).toContain('BAD_USER_INPUT');
    expect(answer.text).toMatch(/event: complete\n/);
  });

  test('a subscription of two fields is refused', async () => {
    const field = `tenantProvisioningProgress(operationId: "${operation.id}") { step }`;
    const answer = await subscribe(`subscription { a: ${field} b: ${field} }`);
    expect(answer.text).toMatch(/^:\n\nevent: next\ndata: {"errors":.*\n\nevent: complete\n/);
  });

  test('bad credentials are refused', async () => {
    const answer = await gateway.post(
      '/graphql',
      { query: progressDocument, variables: { operationId: operation.id } },
      { ...accept, Authorization: 'Bearer not.a.token' },
    );
    expect(answer.status).toBe(401);
  });

  test('a client that accepts JSON alone gets no subscription', async () => {
    const answer = await gateway.post(
      '/graphql',
      { query: progressDocument, variables: { operationId: operation.id } },
      { Accept: 'application/json' },
    );
    expect(answer.status).toBe(406);
  });
});

describe('GET /api/operations/{id}/events', () => {
  const path = (id: string): string => `/api/operations/${id}/events`;

  test.each([
    ['an unknown UUID', '00000000-0000-0000-0000-000000000000'],
    ['a word', 'abc'],
    ['a number', '42'],
    ['an attempt', "'; DROP TABLE tenants; --"],
    ['a NUL', '\0'],
    ['a letter', 'ü'],
    ['a long text', 'a'.repeat(5000)],
  ])('%s is not found', async (_name, id) => {
    const answer = await gateway.get(path(encodeURIComponent(id)));
    expect(answer.status).toBe(404);
    expect(answer.json).toEqual({
      error: { code: 'NOT_FOUND', message: 'There is no such operation' },
    });
  });

  test.each(['abc', '-1', '1.5', '1e3', '0x10', '1 2', '9007199254740992', '9'.repeat(40), '١'])(
    'Last-Event-ID %s is 400',
    async (lastEventId) => {
      const headers = { 'Last-Event-ID': Buffer.from(lastEventId).toString('latin1') };
      const answer = await exchange(gateway.url, { path: path(operation.id), headers });
      expect(answer.status).toBe(400);
      expect(answer.json).toEqual({
        error: {
          code: 'VALIDATION_ERROR',
          message: 'Last-Event-ID must be the id of an event: a whole number',
        },
      });
    },
  );

  test('after the last event: 204, so that a browser stops asking', async () => {
    const ended = await makeEndedOperation(world);
    const whole = await gateway.get(path(ended.id));
    const ids = [...whole.text.matchAll(/^id: (\d+)$/gm)].map(([, id]) => id!);
    expect(ids).toHaveLength(3);
    expect(whole.text).toMatch(/"operation_status":"succeeded"[^\n]*}\n\n$/);
    const rest = await gateway.get(path(ended.id), { 'Last-Event-ID': ids[1]! });
    expect([...rest.text.matchAll(/^id: (\d+)$/gm)].map(([, id]) => id)).toEqual([ids[2]]);
    const nothing = await gateway.get(path(ended.id), { 'Last-Event-ID': ids[2]! });
    expect([nothing.status, nothing.text]).toEqual([204, '']);
  });

  test('a client of HTTP/1.0 gets the whole story, in no chunks', async () => {
    const { id } = await makeEndedOperation(world);
    const socket = await send(`GET ${path(id)} HTTP/1.0\r\nHost: localhost\r\n\r\n`);
    const text = (await socket.toArray()).join('');
    const [head = '', body = ''] = text.split('\r\n\r\n');
    expect(head).not.toMatch(/transfer-encoding/i);
    expect(body).toMatch(/^:\n\n(id: \d+\nevent: progress\ndata: {.*}\n\n){3}$/);
  });

  test('requests that are sent behind one another are answered in order', async () => {
    const stories = [
      await makeEndedOperation(world),
      await makeEndedOperation(world),
      await makeEndedOperation(world),
    ];
    const last = `GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`;
    const head = 'HTTP/1.1\r\nHost: localhost\r\n\r\n';
    const socket = await send(stories.map(({ id }) => `GET ${path(id)} ${head}`).join('') + last);
    const text = (await socket.toArray()).join('');
    const [, ...answers] = text.split('HTTP/1.1 200 OK\r\n');
    expect(answers).toHaveLength(4);
    for (const [index, { id }] of stories.entries()) {
      expect(answers[index]).toMatch(/\r\n0\r\n\r\n$/);
      expect(answers[index]?.split(`"operation_id":"${id}"`)).toHaveLength(4);
    }
  });

  test('many requests behind one another add no listeners to their connection', async () => {
    const warnings: Error[] = [];
    const onWarning = (warning: Error): number => warnings.push(warning);
    process.on('warning', onWarning);
    const head = 'HTTP/1.1\r\nHost: localhost\r\n';
    const behind = `${`GET /livez ${head}\r\n`.repeat(20)}GET /livez ${head}Connection: close\r\n\r\n`;
    const { id } = await makeEndedOperation(world);
    const socket = await send(`GET ${path(id)} ${head}\r\n${behind}`);
    const text = (await socket.toArray()).join('');
    process.off('warning', onWarning);
    expect(text.split('HTTP/1.1 200 OK\r\n')).toHaveLength(23);
    expect(warnings).toEqual([]);
  });

  test('HEAD opens no stream, other methods are not allowed', async () => {
    const head = await fetch(`${gateway.url}${path(operation.id)}`, { method: 'HEAD' });
    expect(head.status).toBe(200);
    expect(head.headers.get('content-type')).toBe('text/event-stream');
    const posted = await gateway.post(path(operation.id), {});
    expect(posted.status).toBe(405);
    expect(posted.headers.get('allow')).toBe('GET, HEAD');
  });
});

describe('closing the gateway', () => {
  test('ends streams at once, and says that they are not over', async () => {
    const stopping = await world.start({ settings: { SHUTDOWN_GRACE_SECONDS: '60' } });
    const overRest = stopping.get(`/api/operations/${operation.id}/events`);
    const overGraphQL = overServerSentEvents(stopping, { operationId: operation.id }).next();
    await expectOpen(stopping, 2);
    await stopping.close();
    const { text } = await overRest;
    expect(text).toMatch(
      /event: error\ndata: {"error":{"code":"UNAVAILABLE","message":"[^"]+"}}\n\n$/,
    );
    expect(await overGraphQL).toMatchObject({
      value: { errors: [{ extensions: { code: 'UNAVAILABLE' } }] },
    });
  });
});
