import { once } from 'node:events';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { socketUrl } from '../progress/watch.ts';
import { bearer, startWithTokens } from '../tokens.ts';
import { exchange } from './wire.ts';

let world: World;
let open: TestGateway;
let closed: TestGateway;
let authorization: string;
let other: string;
let apiKey: string;
const sockets = new Set<WebSocket>();

beforeAll(async () => {
  world = await createWorld();
  open = await startWithTokens(world, { AUTH_MODE: 'open' });
  closed = await startWithTokens(world);
  const claims = { roles: ['partner-viewer'], partner: 'acme' };
  ({ Authorization: authorization } = await bearer({ ...claims, sub: 'viewer' }));
  ({ Authorization: other } = await bearer({ ...claims, sub: 'another' }));
  const made = await open.graphql<{ createTenant: { apiKey: string } }>(
    'mutation { createTenant(input: { name: "Key" }) { apiKey } }',
  );
  ({ apiKey } = made.createTenant);
});
afterAll(() => world.close());
afterEach(() => {
  for (const socket of sockets) socket.terminate();
  sockets.clear();
});

type Headers = Readonly<Record<string, string | string[]>>;

/** Who a connection is: the viewer's kind and subject, or the code that it is closed with. */
async function whoIs(
  gateway: TestGateway,
  payload: unknown,
  headers: Headers = {},
  query = '',
): Promise<unknown> {
  const socket = new WebSocket(`${socketUrl(gateway)}${query}`, 'graphql-transport-ws', {
    headers,
  });
  sockets.add(socket);
  await once(socket, 'open');
  return new Promise((resolve) => {
    socket.once('close', resolve);
    socket.on('message', (data) => {
      const message = JSON.parse((data as Buffer).toString()) as {
        type: string;
        payload?: { data?: { viewer?: { kind: string; subject: string } } };
      };
      if (message.type === 'connection_ack') {
        const subscribe = {
          id: 'a',
          type: 'subscribe',
          payload: { query: '{ viewer { kind subject } }' },
        };
        socket.send(JSON.stringify(subscribe));
      } else if (message.type === 'next') {
        const { kind, subject } = message.payload!.data!.viewer!;
        resolve(kind === 'TENANT' ? kind : subject);
      }
    });
    socket.send(JSON.stringify({ type: 'connection_init', payload }));
  });
}

describe('credentials of a WebSocket connection', () => {
  test.for<[payload: () => unknown, who: string]>([
    [() => ({ authorization }), 'viewer'],
    [() => ({ Authorization: authorization }), 'viewer'],
    [() => ({ AUTHORIZATION: authorization }), 'viewer'],
    [() => ({ headers: { Authorization: authorization } }), 'viewer'],
    [() => ({ Headers: { authorization } }), 'viewer'],
    [() => ({ HEADERS: { AuThOrIzAtIoN: authorization } }), 'viewer'],
    [() => ({ authorization, Authorization: authorization, headers: { authorization } }), 'viewer'],
    [() => ({ 'X-API-Key': apiKey }), 'TENANT'],
    [() => ({ 'x-api-key': apiKey }), 'TENANT'],
    [() => ({ headers: { 'X-Api-Key': apiKey } }), 'TENANT'],
    [() => ({ headers: { Authorization: `Bearer ${apiKey}` } }), 'TENANT'],
    [() => ({ authorization, locale: 'en', headers: { 'X-Request-Id': 'x' } }), 'viewer'],
    [() => ({ authorization, 'X-CSRF-Token': 'x' }), 'viewer'],
  ])('%s is who presents them', async ([payload, who]) => {
    for (const gateway of [open, closed]) expect(await whoIs(gateway, payload())).toBe(who);
  });

  test('in the headers of the upgrade', async () => {
    for (const gateway of [open, closed]) {
      const headers = { Authorization: authorization };
      expect(await whoIs(gateway, {}, headers)).toBe('viewer');
      expect(await whoIs(gateway, { authorization }, headers)).toBe('viewer');
      expect(await whoIs(gateway, undefined, { 'X-API-Key': apiKey })).toBe('TENANT');
    }
  });

  test('absent, are the local operator’s in open mode alone', async () => {
    for (const payload of [undefined, null, {}, { locale: 'en' }, { headers: {} }]) {
      expect(await whoIs(open, payload)).toBe('local-operator');
      expect(await whoIs(closed, payload)).toBe(4403);
    }
  });

  test.for<[payload: () => unknown]>([
    [() => ({ authorization: '' })],
    [() => ({ authorization: null })],
    [() => ({ authorization: 7 })],
    [() => ({ authorization: false })],
    [() => ({ authorization: [authorization] })],
    [() => ({ authorization: { Bearer: authorization } })],
    [() => ({ Authorization: 'Basic cm9vdDpyb290' })],
    [() => ({ Authorization: 'Bearer' })],
    [() => ({ Authorization: authorization.replace('Bearer ', '') })],
    [() => ({ Authorization: authorization.replace('Bearer ', 'Token ') })],
    [() => ({ Authorization: `${authorization}x` })],
    [() => ({ 'X-API-Key': '' })],
    [() => ({ 'X-API-Key': null })],
    [() => ({ 'X-API-Key': [apiKey] })],
    [() => ({ 'X-API-Key': 'tk_unknown_0123456789' })],
    [() => ({ 'X-API-Key': authorization })],
    [() => ({ headers: null })],
    [() => ({ headers: 'authorization' })],
    [() => ({ headers: [['authorization', authorization]] })],
    [() => ({ headers: { authorization: null } })],
    [() => ({ headers: { Authorization: '' } })],
    [() => ({ headers: { 'x-api-key': 1 } })],
    [() => ({ authorization, Authorization: other })],
    [() => ({ authorization, headers: { Authorization: other } })],
    [() => ({ headers: { authorization }, Headers: { authorization: other } })],
    [() => ({ 'x-api-key': apiKey, headers: { 'X-API-Key': 'tk_other' } })],
    [() => ({ authorization, 'X-API-Key': apiKey })],
    [() => ({ authorization, headers: { 'x-api-key': apiKey } })],
    [() => ({ token: authorization })],
    [() => ({ accessToken: authorization })],
    [() => ({ access_token: authorization })],
    [() => ({ authToken: authorization })],
    [() => ({ auth: authorization })],
    [() => ({ jwt: authorization })],
    [() => ({ bearer: authorization })],
    [() => ({ apiKey })],
    [() => ({ api_key: apiKey })],
    [() => ({ 'Api-Key': apiKey })],
    [() => ({ XApiKey: apiKey })],
    [() => ({ 'Proxy-Authorization': authorization })],
    [() => ({ headers: { 'X-Auth-Token': authorization } })],
    [() => ({ ' authorization ': authorization })],
  ])('%s are refused in every mode', async ([payload]) => {
    for (const gateway of [open, closed]) expect(await whoIs(gateway, payload())).toBe(4403);
  });

  test.for<[payload: () => unknown, headers: () => Headers]>([
    [() => ({ authorization }), () => ({ Authorization: other })],
    [() => ({ authorization: other }), () => ({ Authorization: authorization })],
    [() => ({ authorization }), () => ({ Authorization: 'Basic cm9vdDpyb290' })],
    [() => ({ authorization }), () => ({ 'X-API-Key': apiKey })],
    [() => ({}), () => ({ Authorization: '' })],
    [() => ({}), () => ({ Authorization: 'Basic cm9vdDpyb290' })],
    [() => ({}), () => ({ Authorization: [authorization, other] })],
    [() => ({}), () => ({ 'X-API-Key': [apiKey, 'tk_other'] })],
  ])('%s and those of the upgrade %s are refused', async ([payload, headers]) => {
    for (const gateway of [open, closed]) {
      expect(await whoIs(gateway, payload(), headers())).toBe(4403);
    }
  });

  test('in the address are refused', async () => {
    for (const query of [
      `?access_token=${authorization}`,
      '?token=x',
      '?X-API-Key=',
      '?apiKey=x',
    ]) {
      for (const gateway of [open, closed]) {
        expect(await whoIs(gateway, {}, {}, query)).toBe(4403);
        expect(await whoIs(gateway, { authorization }, {}, query)).toBe(4403);
      }
    }
  });

  test('that are refused are in the log, but for themselves', async () => {
    expect(await whoIs(open, { token: authorization })).toBe(4403);
    expect(open.logs()).toContain('Credentials are taken as authorization or x-api-key');
    expect(open.logs()).not.toContain(authorization.replace('Bearer ', ''));
  });
});

describe('credentials of a request', () => {
  const ask = (headers: Headers, path = '/graphql?query={viewer{kind}}') =>
    exchange(open.url, { path, headers });

  test.for<[headers: () => Headers]>([
    [() => ({ Authorization: [authorization, other] })],
    [() => ({ Authorization: [authorization, 'Basic x'] })],
    [() => ({ Authorization: ['Basic x', authorization] })],
    [() => ({ 'X-API-Key': [apiKey, 'tk_other'] })],
    [() => ({ Authorization: authorization, 'X-API-Key': apiKey })],
    [() => ({ Authorization: 'Token x' })],
    [() => ({ Authorization: 'Digest x' })],
  ])('%s are 401', async ([headers]) => {
    expect((await ask(headers())).status).toBe(401);
    expect((await ask(headers(), '/api/tenants')).status).toBe(401);
    expect((await ask(headers(), '/api/operations/x/events')).status).toBe(401);
  });

  test('in the address are 401', async () => {
    for (const name of ['access_token', 'token', 'api_key', 'Authorization', 'x-api-key']) {
      const graphql = await ask({}, `/graphql?query={viewer{kind}}&${name}=x`);
      expect(graphql.status).toBe(401);
      expect((await ask({}, `/api/tenants?${name}=x`)).status).toBe(401);
    }
  });
});
