import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { exchange, type WireAnswer } from './wire.ts';

const mine = 'https://app.example.com';
const other = 'http://localhost:5173';
const strangers = [
  'https://evil.example.com',
  'null',
  `${mine}.evil.com`,
  `${mine}:8443`,
  'https://app.example.co',
  'http://app.example.com',
  '',
];

let world: World;
let closed: TestGateway;
let open: TestGateway;
let forOne: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  closed = await world.start();
  open = await world.start({ settings: { CORS_ORIGINS: `${mine}, ${other}` } });
  forOne = await world.start({ settings: { CORS_ORIGINS: mine } });
});
afterAll(() => world.close());

const requests = {
  'POST /graphql': { method: 'POST', path: '/graphql', body: '{"query": "{ viewer { kind } }"}' },
  'GET /graphql': { method: 'GET', path: '/graphql?query={viewer{kind}}' },
  'POST /api/v1/tenants': { method: 'POST', path: '/api/v1/tenants', body: '{}' },
  'GET /api/operations/{id}': { method: 'GET', path: '/api/operations/x' },
  'GET /nowhere': { method: 'GET', path: '/nowhere' },
};
const names = Object.keys(requests) as (keyof typeof requests)[];

const ask = (gateway: TestGateway, name: keyof typeof requests, origin: string | null) =>
  exchange(gateway.url, {
    ...requests[name],
    headers: {
      'Content-Type': 'application/json',
      ...(origin === null ? {} : { Origin: origin }),
    },
  });
const preflight = (gateway: TestGateway, path: string, origin: string) =>
  exchange(gateway.url, {
    method: 'OPTIONS',
    path,
    headers: {
      Origin: origin,
      'Access-Control-Request-Method': 'POST',
      'Access-Control-Request-Headers': 'content-type, idempotency-key',
    },
  });
const corsHeaders = ({ headers }: WireAnswer): string[] =>
  Object.keys(headers).filter((name) => name.startsWith('access-control-'));

describe('without CORS_ORIGINS', () => {
  test.for(names)('%s: no other origin may read it', async (name) => {
    for (const origin of [mine, ...strangers]) {
      expect(corsHeaders(await ask(closed, name, origin))).toEqual([]);
    }
  });

  test.for(['/graphql', '/api/v1/tenants'])('OPTIONS %s: no preflight passes', async (path) => {
    for (const origin of [mine, ...strangers]) {
      const answer = await preflight(closed, path, origin);
      expect(answer.status).toBe(405);
      expect(corsHeaders(answer)).toEqual([]);
    }
  });
});

describe('with CORS_ORIGINS', () => {
  test.for(names)('%s: the origins listed may read it', async (name) => {
    for (const origin of [mine, other]) {
      const { headers, status } = await ask(open, name, origin);
      expect(status).toBe((await ask(closed, name, null)).status);
      expect(headers['access-control-allow-origin']).toBe(origin);
      expect(headers.vary).toMatch(/\bOrigin\b/);
      const exposed = headers['access-control-expose-headers']?.split(', ');
      expect(exposed).toEqual(
        expect.arrayContaining(['Location', 'RateLimit', 'Retry-After', 'X-Request-Id']),
      );
    }
  });

  test.for(names)('%s: no other origin may, however many are listed', async (name) => {
    for (const gateway of [open, forOne]) {
      for (const origin of strangers) {
        const answer = await ask(gateway, name, origin);
        expect(corsHeaders(answer)).toEqual([]);
        expect(answer.headers.vary).toMatch(/\bOrigin\b/);
      }
    }
  });

  test.for(['/graphql', '/api/v1/tenants', '/api/operations/x'])('OPTIONS %s', async (path) => {
    for (const origin of [mine, other]) {
      const answer = await preflight(open, path, origin);
      expect(answer).toMatchObject({ status: 204, text: '' });
      expect(answer.headers).toMatchObject({
        'access-control-allow-origin': origin,
        'access-control-allow-methods': 'POST',
        'access-control-allow-headers': 'content-type, idempotency-key',
      });
    }
    for (const origin of strangers) {
      const answer = await preflight(open, path, origin);
      expect(answer.status).toBe(405);
      expect(corsHeaders(answer)).toEqual([]);
    }
  });

  test('an OPTIONS that is no preflight is a method that the path does not have', async () => {
    const answer = await exchange(open.url, {
      method: 'OPTIONS',
      path: '/api/v1/tenants',
      headers: { Origin: mine },
    });
    expect(answer.status).toBe(405);
  });
});
