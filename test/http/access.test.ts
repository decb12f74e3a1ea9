import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { countTenants } from '../rest/contract-a.ts';
import { exchange } from './wire.ts';

let world: World;
let gateway: TestGateway;
let port: string;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
  ({ port } = new URL(gateway.url));
});
afterAll(() => world.close());

const json = { 'Content-Type': 'application/json' };
const create = {
  method: 'POST',
  path: '/api/v1/tenants',
  body: '{"name": "by a stranger", "environment": "staging"}',
};
const query = { method: 'POST', path: '/graphql', body: '{"query": "{ viewer { kind } }"}' };

describe('AUTH_MODE=open: credentials that are presented are never ignored', () => {
  test.for([
    ['Authorization', 'Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.'],
    ['Authorization', 'Bearer tk_acme_0123456789'],
    ['Authorization', 'Basic cm9vdDpyb290'],
    ['Authorization', 'Bearer'],
    ['Authorization', ''],
    ['X-API-Key', 'tk_acme_0123456789'],
    ['X-API-Key', ''],
  ] as const)('%s: %s is 401 with WWW-Authenticate', async ([name, value]) => {
    const headers = { ...json, [name]: value };
    const isKey = name === 'X-API-Key' || value.startsWith('Bearer tk_');
    const message = isKey ? 'The API key is not valid' : 'These credentials are not valid here';
    const before = await countTenants(world);

    const rest = await exchange(gateway.url, { ...create, headers });
    expect(rest).toMatchObject({ status: 401, json: { detail: message } });
    expect(rest.headers['www-authenticate']).toBe('Bearer');

    const operation = await exchange(gateway.url, { path: '/api/operations/x', headers });
    expect(operation.json).toEqual({ error: { code: 'UNAUTHENTICATED', message } });
    expect(operation.headers['www-authenticate']).toBe('Bearer');

    const graphql = await exchange(gateway.url, { ...query, headers });
    expect(graphql.status).toBe(401);
    expect(graphql.json).toEqual({
      errors: [{ message, extensions: { code: 'UNAUTHENTICATED' } }],
    });
    expect(graphql.headers['www-authenticate']).toBe('Bearer');
    expect(await countTenants(world)).toBe(before);
  });

  test.for(['/livez', '/readyz'])('%s asks for none', async (path) => {
    expect((await gateway.get(path, { Authorization: 'Bearer x' })).status).toBe(200);
  });
});

describe('AUTH_MODE=open: only loopback names are served', () => {
  const message = 'In open mode only requests to a loopback name are served';

  test.for([
    'evil.example',
    'localhost.evil.example',
    '127.0.0.1.nip.io',
    'localhost.',
    'notlocalhost',
    '0.0.0.0',
    '192.168.0.1',
    '169.254.169.254',
    '[::2]',
    '[::ffff:10.0.0.1]',
  ])('Host: %s is 403, in the form of what was asked', async (name) => {
    for (const host of [name, `${name}:${port}`]) {
      const headers = { ...json, Host: host };
      const rest = await exchange(gateway.url, { ...create, headers });
      expect(rest).toMatchObject({ status: 403, json: { detail: message } });

      const graphql = await exchange(gateway.url, { ...query, headers });
      expect(graphql.status).toBe(403);
      expect(graphql.json).toEqual({ errors: [{ message, extensions: { code: 'FORBIDDEN' } }] });

      for (const path of ['/livez', '/readyz', '/', '/api/operations/x']) {
        const other = await exchange(gateway.url, { path, headers });
        expect(other).toMatchObject({
          status: 403,
          json: { error: { code: 'FORBIDDEN', message } },
        });
      }
      const page = { Accept: 'text/html', Host: host };
      expect((await exchange(gateway.url, { path: '/graphql', headers: page })).status).toBe(403);
    }
    expect(await countTenants(world)).toBe(0);
  });

  test.for(['localhost', 'LOCALHOST', 'app.localhost', '127.0.0.1', '127.1.2.3', '[::1]'])(
    'Host: %s is served',
    async (name) => {
      for (const host of [name, `${name}:${port}`, `${name}:1`]) {
        const headers = { ...json, Host: host };
        expect((await exchange(gateway.url, { path: '/livez', headers })).status).toBe(200);
        const answer = await exchange(gateway.url, { ...query, headers });
        expect(answer.json).toEqual({ data: { viewer: { kind: 'OPERATOR' } } });
      }
    },
  );
});
