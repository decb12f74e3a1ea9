import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { exchange, type WireRequest } from './wire.ts';

let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
});
afterAll(() => world.close());

const contractA = '/api/v1/tenants';
const tenant = { name: 'acme', environment: 'production' };
const json = { 'Content-Type': 'application/json' };
const mebibyte = 1024 * 1024;

/** A body of contract A with so many bytes; the name is too short, so that nothing is made. */
function padded(bytes: number): Buffer {
  const body = JSON.stringify({ name: '', environment: 'staging', padding: '' });
  return Buffer.from(body.replace('"padding":"', `"padding":"${'x'.repeat(bytes - body.length)}`));
}

const send = (wire: WireRequest) =>
  exchange(gateway.url, { method: 'POST', headers: json, ...wire });

describe('a body of more than 1 MiB', () => {
  const tooLong = `A request may have at most ${mebibyte} bytes`;
  const sizes = [mebibyte + 1, 5 * mebibyte, 20 * mebibyte];

  test.for(sizes.flatMap((size) => [[size, false] as const, [size, true] as const]))(
    'is answered 413 (%i bytes, chunked: %s)',
    async ([size, chunked]) => {
      const body = padded(size);
      const rest = await send({ path: contractA, body, chunked });
      expect(rest).toMatchObject({ status: 413, json: { detail: tooLong } });
      const graphql = await send({ path: '/graphql', body, chunked });
      const errors = [{ message: tooLong, extensions: { code: 'BAD_REQUEST' } }];
      expect(graphql).toMatchObject({ status: 413, json: { errors } });
    },
  );

  test.for([false, true])('1 MiB is read (chunked: %s)', async (chunked) => {
    const answer = await send({ path: contractA, body: padded(mebibyte), chunked });
    expect(answer).toMatchObject({ status: 422, json: { detail: [{ type: 'string_too_short' }] } });
  });

  test('the gateway goes on', async () => {
    expect((await gateway.get('/livez')).status).toBe(200);
  });
});

describe('a body without Content-Type', () => {
  test('POST /api/v1/tenants: 415', async () => {
    const answer = await send({ path: contractA, headers: {}, body: JSON.stringify(tenant) });
    expect(answer).toMatchObject({
      status: 415,
      json: { detail: 'Content-Type must be application/json' },
    });
  });

  test('POST /graphql: 415', async () => {
    const answer = await send({ path: '/graphql', headers: {}, body: '{"query": "{__typename}"}' });
    expect(answer.status).toBe(415);
  });
});

describe('a method that a path does not have', () => {
  test.for([
    ['GET', contractA, 'POST'],
    ['PUT', contractA, 'POST'],
    ['PATCH', contractA, 'POST'],
    ['DELETE', contractA, 'POST'],
    ['OPTIONS', contractA, 'POST'],
    ['PROPFIND', contractA, 'POST'],
    ['POST', '/livez', 'GET, HEAD'],
    ['DELETE', '/readyz', 'GET, HEAD'],
    ['DELETE', '/api/operations/x', 'GET, HEAD'],
    ['PUT', '/graphql', 'GET, POST'],
    ['DELETE', '/graphql', 'GET, POST'],
  ] as const)('%s %s: 405, Allow: %s', async ([method, path, allow]) => {
    const answer = await exchange(gateway.url, { method, path });
    expect(answer.status).toBe(405);
    expect(answer.headers.allow).toBe(allow);
    const form =
      path === contractA
        ? { detail: `${method} is not allowed here` }
        : path === '/graphql'
          ? { errors: [{ extensions: { code: 'BAD_REQUEST' } }] }
          : { error: { code: 'METHOD_NOT_ALLOWED', message: `${method} is not allowed here` } };
    expect(answer.json).toMatchObject(form);
  });

  test('HEAD: 405 without a body', async () => {
    const answer = await exchange(gateway.url, { method: 'HEAD', path: contractA });
    expect(answer).toMatchObject({ status: 405, text: '', headers: { allow: 'POST' } });
  });
});

describe('a path that leads nowhere: 404', () => {
  test.for([
    '/api/v1',
    '/api/v1/',
    '/api/v1/tenants/',
    '/api/v1/tenants/x',
    '/api/v1/%00',
    '/api/v1/%',
  ])('%s in the form of contract A', async (path) => {
    for (const method of ['GET', 'POST']) {
      const answer = await exchange(gateway.url, { method, path });
      expect(answer).toMatchObject({ status: 404, json: { detail: 'Not Found' } });
    }
  });

  test.for([
    '/nothing',
    '/api',
    '/api/v1x',
    '/API/V1/tenants',
    '/graphql/',
    '/graphql/x',
    '//',
    '/%',
    '/%ff',
    '/.env',
    '/livez/',
    '/api/operations/',
    '/x?query=1',
  ])('%s in the form of no contract', async (path) => {
    const answer = await exchange(gateway.url, { path });
    expect(answer).toMatchObject({
      status: 404,
      json: { error: { code: 'NOT_FOUND', message: 'Not Found' } },
    });
  });
});

describe('X-Request-Id', () => {
  const made = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
  const paths = ['/livez', '/nowhere', '/graphql?query={viewer{kind}}', contractA];

  test.for(paths)('%s: made when there is none', async (path) => {
    const first = await exchange(gateway.url, { path });
    const second = await exchange(gateway.url, { path });
    expect(first.headers['x-request-id']).toMatch(made);
    expect(first.headers['x-request-id']).not.toBe(second.headers['x-request-id']);
  });

  test.for(paths)('%s: echoed, and in the log', async (path) => {
    const id = 'trace:01J/abc.DEF-_+=';
    const answer = await exchange(gateway.url, { path, headers: { 'X-Request-Id': id } });
    expect(answer.headers['x-request-id']).toBe(id);
    expect(gateway.logs()).toContain(`"requestId":${JSON.stringify(id)}`);
  });

  test.for([
    ['with a space', 'a b'],
    ['with a quote', 'a"b'],
    ['with markup', '<script>'],
    ['with a terminal escape', 'a\u009b31m'],
    ['beyond ASCII', 'caf\u00e9'],
    ['empty', ''],
    ['of 129 characters', 'x'.repeat(129)],
    ['given twice', ['a', 'b']],
  ] as const)('one %s is replaced', async ([, id]) => {
    const headers = { 'X-Request-Id': typeof id === 'string' ? id : [...id] };
    const answer = await exchange(gateway.url, { path: '/livez', headers });
    expect(answer.status).toBe(200);
    expect(answer.headers['x-request-id']).toMatch(made);
  });

  test('one of 128 characters is echoed', async () => {
    const id = 'x'.repeat(128);
    const answer = await exchange(gateway.url, { path: '/livez', headers: { 'X-Request-Id': id } });
    expect(answer.headers['x-request-id']).toBe(id);
  });
});

test.for(['/livez', '/graphql', '/graphql?query={viewer{kind}}', contractA, '/nowhere'])(
  '%s: security headers, and nothing that tells what serves it',
  async (path) => {
    const { headers } = await exchange(gateway.url, { path });
    expect(headers).toMatchObject({
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
      'referrer-policy': 'no-referrer',
    });
    expect(headers).not.toHaveProperty('server');
    expect(headers).not.toHaveProperty('x-powered-by');
    expect(headers).not.toHaveProperty('access-control-allow-origin');
  },
);
