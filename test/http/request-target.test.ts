import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseAuthority } from '../../src/http/request-target.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { bearer, startWithTokens } from '../tokens.ts';
import { exchange, type WireRequest } from './wire.ts';

let world: World;
let open: TestGateway;
let closed: TestGateway;
let token: { Authorization: string };

beforeAll(async () => {
  world = await createWorld();
  open = await world.start();
  closed = await startWithTokens(world);
  token = await bearer({ roles: ['platform-admin'] });
});
afterAll(() => world.close());

const json = { 'Content-Type': 'application/json' };
const requests: Readonly<Record<string, WireRequest>> = {
  'POST /graphql': { method: 'POST', path: '/graphql', body: '{"query": "{ __typename }"}' },
  'GET /graphql': { path: '/graphql?query={__typename}' },
  'server-sent events': {
    path: '/graphql?query=subscription{tenantProvisioningProgress(idempotencyKey:"x"){sequence}}',
    headers: { Accept: 'text/event-stream' },
  },
  'POST /api/v1/tenants': { method: 'POST', path: '/api/v1/tenants', body: '{}' },
  'GET /api/tenants': { path: '/api/tenants' },
  'POST /api/tenants/{id}/api-key/rotate': {
    method: 'POST',
    path: '/api/tenants/1/api-key/rotate',
  },
  'GET /api/operations/{id}/events': { path: '/api/operations/x/events' },
  'GET /livez': { path: '/livez' },
  'GET /readyz': { path: '/readyz' },
  'GET /': { path: '/' },
  'GET /docs': { path: '/docs' },
  'GET /nowhere': { path: '/nowhere' },
};

const missing = 'The Host header is missing';
const doubled = 'The Host header is given more than once';
const noAuthority = 'The Host header must be a name or address, with or without a port';

/** Sends these very header lines; resolves with the whole answer. */
function sendRaw(url: string, lines: readonly string[]): Promise<string> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname, () => {
      socket.write([...lines, 'Connection: close', '', ''].join('\r\n'));
    });
    let received = '';
    socket.on('data', (data: Buffer) => (received += data.toString()));
    socket.once('error', reject);
    socket.once('end', () => {
      socket.destroy();
      resolve(received);
    });
  });
}

function bodyFor(path: string, message: string): unknown {
  if (path.startsWith('/graphql')) {
    return { errors: [{ message, extensions: { code: 'BAD_REQUEST' } }] };
  }
  if (path.startsWith('/api/v1/')) return { detail: message };
  return { error: { code: 'BAD_REQUEST', message } };
}

describe.for(Object.entries(requests))('%s', ([, request]) => {
  test.for([
    '[x',
    'x]',
    '[localhost]',
    '[]',
    '[::1',
    '[::1]x',
    '[::1%25lo]',
    '[1.2.3.4]',
    '%zz',
    '%6cocalhost',
    'x:99999999',
    'localhost:65536',
    'localhost:-1',
    'localhost:x',
    'localhost:80:80',
    'user@localhost',
    'user:password@localhost',
    'localhost/',
    'localhost/graphql',
    'localhost?',
    'localhost#',
    'local host',
    'localhost, localhost',
    'localhost\\',
    'http://localhost',
    'http://',
    '1.2.3.4.5',
    '999.1.1.1',
    '127.1',
    '0x7f.1',
    '{localhost}',
    'lőcalhost'.normalize('NFC').replace('ő', '\xf6'),
    '<script>',
    '',
    ':80',
  ])('Host: %j is 400', async (host) => {
    for (const gateway of [open, closed]) {
      const headers = { ...json, ...request.headers, ...token, Host: host };
      const answer = await exchange(gateway.url, { ...request, headers });
      expect(answer.json).toEqual(bodyFor(request.path, noAuthority));
      expect(answer.status).toBe(400);
      expect(answer.headers['content-type']).toMatch(/^application\/json/);
      expect(answer.text).not.toMatch(/node_modules|\.ts|\.js| at /);
    }
  });

  test.for(['xn--a', 'a..b', '-', '_', '.', '..', 'a.', '0', '1e3', 'x'.repeat(300), '[::]'])(
    'Host: %j is no error of ours',
    async (host) => {
      const headers = { ...json, ...request.headers, Host: host };
      const path = request.path.replace(/subscription.*/, 'x');
      const answer = await exchange(closed.url, { ...request, path, headers });
      expect(answer.status).toBeLessThan(500);
      expect(answer.text).not.toMatch(/node_modules|\.ts:|\.js:/);
    },
  );

  test('no Host, or two, are 400', async () => {
    const first = `${request.method ?? 'GET'} ${request.path} HTTP/1.`;
    const host = 'Host: localhost';
    for (const [lines, message] of [
      [[`${first}1`], missing],
      [[`${first}0`], missing],
      [[`${first}1`, host, host], doubled],
      [[`${first}1`, host, 'Host: evil.example'], doubled],
      [[`${first}1`, 'Host: [x', host], doubled],
    ] as const) {
      const answer = await sendRaw(open.url, lines);
      expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
      expect(answer).toContain(JSON.stringify(bodyFor(request.path, message)));
    }
  });
});

describe('the upgrade to WebSocket', () => {
  test.for([
    [['Host: [x'], noAuthority],
    [['Host: %zz'], noAuthority],
    [['Host: x:99999999'], noAuthority],
    [['Host: user@localhost'], noAuthority],
    [['Host: '], noAuthority],
    [[], missing],
    [['Host: localhost', 'Host: localhost'], doubled],
  ] as const)('%j is 400', async ([hosts, message]) => {
    const lines = ['GET /graphql HTTP/1.1', ...hosts, 'Upgrade: websocket', 'Connection: Upgrade'];
    for (const gateway of [open, closed]) {
      const answer = await sendRaw(gateway.url, lines);
      expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
      expect(answer.split('\r\n\r\n')[1]).toBe(JSON.stringify(bodyFor('/graphql', message)));
    }
  });
});

describe('the request target', () => {
  test('in absolute form counts instead of the Host header', async () => {
    const ask = async (target: string): Promise<string> =>
      (await sendRaw(open.url, [`GET ${target} HTTP/1.1`, 'Host: localhost'])).split('\r\n', 1)[0]!;
    expect(await ask('http://localhost/livez')).toContain(' 200 ');
    expect(await ask('http://127.0.0.1:4000/graphql?query={__typename}')).toContain(' 200 ');
    expect(await ask('http://evil.example/livez')).toContain(' 403 ');
    for (const target of ['http://[x/livez', 'http:///livez', 'http://user@localhost/livez', '*']) {
      expect(await ask(target)).toContain(' 400 ');
    }
  });

  test.for(['/\\evil.example', '/..\\x', '/graphql\\'])('%s is 400', async (path) => {
    const answer = await exchange(open.url, { path });
    expect(answer.status).toBe(400);
    expect(answer.json).toEqual(bodyFor('/', 'The request target must be a path'));
  });
});

describe('an authority', () => {
  test.for([
    ['localhost', 'localhost'],
    ['LOCALHOST:4000', 'localhost:4000'],
    ['tenants.example.com:80', 'tenants.example.com'],
    ['tenants.example.com.', 'tenants.example.com.'],
    ['api_gateway:8080', 'api_gateway:8080'],
    ['127.0.0.1:65535', '127.0.0.1:65535'],
    ['[::1]:4000', '[::1]:4000'],
    ['[0:0:0:0:0:0:0:1]', '[::1]'],
    ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
  ] as const)('%s', ([text, host]) => {
    expect(parseAuthority(text)).toBe(host);
  });
});
