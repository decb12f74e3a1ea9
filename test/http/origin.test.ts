import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { bearer, startWithTokens } from '../tokens.ts';
import { exchange, type WireAnswer, type WireRequest } from './wire.ts';

const listed = 'https://app.example.com';
const own = 'https://tenants.example.com';

let world: World;
let open: TestGateway;
let closed: TestGateway;
let token: { Authorization: string };
let tenantId: string;

beforeAll(async () => {
  world = await createWorld();
  const settings = { CORS_ORIGINS: listed, PUBLIC_URL: `${own}/gateway` };
  open = await startWithTokens(world, { ...settings, AUTH_MODE: 'open' });
  closed = await startWithTokens(world, settings);
  token = await bearer({ roles: ['platform-admin'], partner: 'acme' });
  const { createTenant } = await open.graphql<{ createTenant: { tenant: { id: string } } }>(
    'mutation { createTenant(input: { name: "Origin" }) { tenant { id } } }',
  );
  tenantId = createTenant.tenant.id;
});
afterAll(() => world.close());

const rotate = (): WireRequest => ({
  method: 'POST',
  path: `/api/tenants/${tenantId}/api-key/rotate`,
});
const json = { 'Content-Type': 'application/json' };
const mutation = {
  query: 'mutation { createTenant(input: { name: "" }) { userErrors { code } } }',
};

/** Requests that change something, with their answer when they may. */
const writes: Readonly<Record<string, () => WireRequest & { readonly allowed: number }>> = {
  'POST /graphql': () => ({
    method: 'POST',
    path: '/graphql',
    headers: json,
    body: JSON.stringify(mutation),
    allowed: 200,
  }),
  'POST /api/v1/tenants': () => ({
    method: 'POST',
    path: '/api/v1/tenants',
    headers: json,
    body: '{}',
    allowed: 422,
  }),
  'POST /api/tenants': () => ({
    method: 'POST',
    path: '/api/tenants',
    headers: json,
    body: '{}',
    allowed: 400,
  }),
  'POST /api/tenants/{id}/api-key/rotate': () => ({ ...rotate(), allowed: 200 }),
  'DELETE /api/tenants/{slug}': () => ({
    method: 'DELETE',
    path: '/api/tenants/nothing',
    allowed: 404,
  }),
  'PATCH /api/provisioning/tenants/{id}': () => ({
    method: 'PATCH',
    path: '/api/provisioning/tenants/nothing',
    headers: { ...json, ...token },
    body: '{}',
    allowed: 404,
  }),
};
const names = Object.keys(writes);

async function send(
  gateway: TestGateway,
  name: string,
  headers: Record<string, string>,
): Promise<WireAnswer & { readonly allowed: number }> {
  const { allowed, ...request } = writes[name]!();
  const proof = gateway === closed ? token : {};
  const all = { ...request.headers, ...proof, ...headers };
  return { ...(await exchange(gateway.url, { ...request, headers: all })), allowed };
}

function expectRefused(name: string, answer: WireAnswer, message: string): void {
  expect(answer.json).toEqual(
    name.endsWith('/graphql')
      ? { errors: [{ message, extensions: { code: 'FORBIDDEN' } }] }
      : name.includes('/v1/')
        ? { detail: message }
        : { error: { code: 'FORBIDDEN', message } },
  );
  expect(answer.status).toBe(403);
}

const refusedOrigin = 'Requests from this Origin are refused; CORS_ORIGINS lists those that may';
const keys = async (): Promise<unknown> =>
  world.query('SELECT id FROM control_plane.api_keys ORDER BY id');

describe.for(names)('%s', (name) => {
  test.for([
    'null',
    '',
    'https://evil.example',
    'http://localhost.evil.example',
    'http://127.0.0.1.evil.example',
    'http://localhost@evil.example',
    'http://evil.example/localhost',
    'http://user@localhost',
    'http://localhost/',
    'localhost',
    'file://',
    'evil://localhost',
    'chrome-extension://localhost',
    'http://[x',
    'https://app.example.com.evil.example',
    'https://app.example.com:8443',
    'http://app.example.com',
    'HTTPS://APP.EXAMPLE.COM',
    `${listed}, ${listed}`,
    `${listed} `.repeat(2).trim(),
  ])('Origin: %j is 403, and nothing is changed', async (origin) => {
    const before = await keys();
    for (const gateway of [open, closed]) {
      expectRefused(name, await send(gateway, name, { Origin: origin }), refusedOrigin);
    }
    expect(await keys()).toEqual(before);
  });

  test('the origins of its own pages, and listed ones, may', async () => {
    for (const gateway of [open, closed]) {
      for (const origin of [gateway.url, gateway.url.replace('http:', 'https:'), own, listed]) {
        // What a browser says besides does not matter then.
        const answer = await send(gateway, name, {
          Origin: origin,
          'Sec-Fetch-Site': 'cross-site',
        });
        expect(answer.status).toBe(answer.allowed);
      }
    }
  });

  test('a loopback origin may in open mode alone', async () => {
    for (const origin of [
      'http://localhost:5173',
      'http://127.0.0.1:1',
      'https://[::1]',
      'http://app.localhost',
    ]) {
      const answer = await send(open, name, { Origin: origin });
      expect(answer.status).toBe(answer.allowed);
      expectRefused(name, await send(closed, name, { Origin: origin }), refusedOrigin);
    }
  });

  test('without an Origin, it is refused from another site', async () => {
    const message = 'Requests from another site are refused';
    for (const gateway of [open, closed]) {
      for (const site of ['cross-site', 'Cross-Site', ' cross-site ']) {
        expectRefused(name, await send(gateway, name, { 'Sec-Fetch-Site': site }), message);
      }
      for (const site of ['same-origin', 'same-site', 'none']) {
        const answer = await send(gateway, name, { 'Sec-Fetch-Site': site });
        expect(answer.status).toBe(answer.allowed);
      }
      const answer = await send(gateway, name, {});
      expect(answer.status).toBe(answer.allowed);
    }
  });

  test.for([
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'text/plain',
    'TEXT/Plain',
    ' text/plain ;charset=UTF-8',
    'text/plain\t; application/json',
    'text/plain;application/json',
    'text/plain, application/json',
    'application/json, text/plain',
    'Application/X-WWW-Form-Urlencoded;charset=utf-8',
  ])('Content-Type: %j is 415, and nothing is changed', async (type) => {
    const before = await keys();
    for (const gateway of [open, closed]) {
      for (const from of [{}, { Origin: gateway.url }, { Origin: listed }]) {
        const answer = await send(gateway, name, { 'Content-Type': type, ...from });
        expect(answer.status).toBe(415);
        expect(answer.text).toContain('Content-Type must be application/json');
      }
    }
    expect(await keys()).toEqual(before);
  });

  test.for(['application/json', 'APPLICATION/JSON', ' application/json ; charset=UTF-8 '])(
    'Content-Type: %j is JSON',
    async (type) => {
      const answer = await send(open, name, { 'Content-Type': type });
      expect(answer.status).toBe(answer.allowed);
    },
  );

  test('a compressed body is 415', async () => {
    for (const encoding of ['gzip', 'deflate', 'br', 'zstd', 'GZIP', 'identity, gzip', 'unknown']) {
      const answer = await send(open, name, { 'Content-Encoding': encoding });
      expect(answer.status).toBe(415);
      expect(answer.text).toContain('A compressed body is not taken');
    }
    const answer = await send(open, name, { 'Content-Encoding': 'identity' });
    expect(answer.status).toBe(answer.allowed);
  });
});

test('what changes nothing is answered wherever it comes from', async () => {
  const headers = { Origin: 'https://evil.example', 'Sec-Fetch-Site': 'cross-site' };
  for (const path of ['/graphql?query={__typename}', '/api/tenants', '/livez']) {
    expect((await exchange(open.url, { path, headers })).status).toBe(200);
  }
  const query = encodeURIComponent(mutation.query);
  const answer = await exchange(open.url, { path: `/graphql?query=${query}`, headers });
  expect(answer.status).toBe(405);
});

test('without credentials, no rule is learned', async () => {
  const request = { ...writes['POST /api/tenants']!(), headers: { 'Content-Type': 'text/plain' } };
  expect((await exchange(closed.url, request)).status).toBe(401);
});
