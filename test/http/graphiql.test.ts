import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';

let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
});
afterAll(() => world.close());

const browser = 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8';
const page = (headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`${gateway.url}/graphql`, { headers: { Accept: browser, ...headers } });

describe('GET /graphql for a browser', () => {
  test('is the GraphiQL page', async () => {
    const response = await page();
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('text/html; charset=utf-8');
    expect(response.headers.get('vary')).toMatch(/\bAccept\b.*\bAccept-Encoding\b/);
    const html = await response.text();
    expect(html.trimStart()).toMatch(/^<!doctype html>/i);
    expect(html).toContain('GraphiQL');
    expect(html.trimEnd()).toMatch(/<\/html>$/);
  });

  test('is compressed for who takes gzip, and the same for who does not', async () => {
    const zipped = await page({ 'Accept-Encoding': 'gzip, deflate, br' });
    expect(zipped.headers.get('content-encoding')).toBe('gzip');
    const plain = await page({ 'Accept-Encoding': 'identity' });
    expect(plain.headers.get('content-encoding')).toBeNull();
    expect(await zipped.text()).toBe(await plain.text());
  });

  test('is 304 for who has it already', async () => {
    const first = await page();
    await first.arrayBuffer();
    const etag = first.headers.get('etag');
    expect(etag).toMatch(/^"[\w-]+"$/);
    const again = await page({ 'If-None-Match': etag! });
    expect(again.status).toBe(304);
    expect(again.headers.get('etag')).toBe(etag);
    expect((await again.arrayBuffer()).byteLength).toBe(0);
    const outdated = await page({ 'If-None-Match': '"other"' });
    expect(outdated.status).toBe(200);
    await outdated.arrayBuffer();
  });

  test('carries security headers', async () => {
    const response = await page();
    await response.arrayBuffer();
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
      'referrer-policy': 'no-referrer',
    });
    const policy = response.headers.get('content-security-policy') ?? '';
    expect(policy).toContain("default-src 'self'");
    expect(policy).toContain("frame-ancestors 'none'");
    expect(policy).not.toMatch(/https?:|\*/);
  });

  // Links that a person may click are no references: only what a browser loads by itself counts.
  test.for([
    [
      'tags',
      /<(?:script|link|img|iframe|source|object|embed|base)\b[^>]*\b(?:src|href|data)\s*=\s*["']?\s*(?:https?:)?\/\//gi,
    ],
    ['attributes', /\b(?:src|poster|action)\s*=\s*["'`]?\s*(?:https?:)?\/\//gi],
    ['imports', /\b(?:import|from)\s*\(?\s*["'`](?:https?:)?\/\//gi],
    ['style sheets', /(?:@import|url\()\s*["']?(?:https?:)?\/\//gi],
    [
      'requests',
      /\b(?:fetch|Worker|EventSource|WebSocket|importScripts|sendBeacon)\s*\(\s*["'`](?:(?:https?|wss?):)?\/\//gi,
    ],
    ['content networks', /unpkg\.com|jsdelivr\.net|esm\.sh|cdnjs|googleapis|gstatic/gi],
  ] as const)('loads nothing from elsewhere: %s', async ([, pattern]) => {
    const html = await (await page()).text();
    expect(html.match(pattern)).toBeNull();
  });
});

describe('GET /graphql for others', () => {
  test.for(['application/json', 'application/graphql-response+json', '*/*'])(
    'Accept: %s is no page',
    async (accept) => {
      const response = await fetch(`${gateway.url}/graphql`, { headers: { Accept: accept } });
      expect(response.headers.get('content-type')).not.toContain('html');
      await response.arrayBuffer();
    },
  );

  test('a query is answered, also in a browser', async () => {
    const answer = await gateway.get('/graphql?query={viewer{kind}}', { Accept: browser });
    expect(answer.json).toEqual({ data: { viewer: { kind: 'OPERATOR' } } });
  });

  test('POST is no page either', async () => {
    const query = '{ viewer { kind } }';
    const answer = await gateway.post('/graphql', { query }, { Accept: browser });
    expect(answer.json).toEqual({ data: { viewer: { kind: 'OPERATOR' } } });
  });

  test('GRAPHIQL=off: there is no page', async () => {
    const bare = await world.start({ settings: { GRAPHIQL: 'off' } });
    const response = await fetch(`${bare.url}/graphql`, { headers: { Accept: browser } });
    expect(response.headers.get('content-type') ?? '').not.toContain('html');
    expect(await response.text()).not.toContain('GraphiQL');
    const query = '{ viewer { kind } }';
    const answer = await bare.post('/graphql', { query });
    expect(answer.json).toEqual({ data: { viewer: { kind: 'OPERATOR' } } });
  });
});
