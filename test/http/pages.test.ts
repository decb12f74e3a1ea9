import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { exchange } from './wire.ts';

let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
});
afterAll(() => world.close());

/** What a page loads and links to, as it stands in it. */
function addressesIn(html: string): string[] {
  return Array.from(html.matchAll(/(?:src|href)="([^"]*)"/g), ([, address]) => address!).filter(
    (address) => !address.startsWith('data:'),
  );
}

describe('GET /docs', () => {
  test('loads from our own origin and from nowhere else', async () => {
    const { status, headers, text } = await gateway.get('/docs', { Accept: 'text/html' });
    expect(status).toBe(200);
    expect(headers.get('content-type')).toBe('text/html; charset=utf-8');
    expect(headers.get('x-frame-options')).toBe('DENY');
    const policy = headers.get('content-security-policy') ?? '';
    expect(policy).toContain("default-src 'none'; script-src 'self';");
    expect(policy).toContain("connect-src 'self';");
    expect(policy).not.toMatch(/https?:|\*|unsafe-eval/);
    for (const address of addressesIn(text)) {
      expect(address).toMatch(/^(docs\/[\w.-]+\?[\w-]+|openapi\.json)$/);
      expect((await gateway.get(`/${address}`)).status).toBe(200);
    }
  });

  test('where the API has another address, its requests may go there', async () => {
    const settings = { PUBLIC_URL: 'https://api.tenantry.test/x' };
    const elsewhere = await world.start({ settings });
    const { headers } = await elsewhere.get('/docs');
    const policy = headers.get('content-security-policy');
    expect(policy).toContain("connect-src 'self' https://api.tenantry.test;");
  });

  test.each([
    ['swagger-ui.css', 'text/css; charset=utf-8'],
    ['swagger-ui-bundle.js', 'text/javascript; charset=utf-8'],
    ['style.css', 'text/css; charset=utf-8'],
    ['start.js', 'text/javascript; charset=utf-8'],
  ])('%s: %s, compressed, kept for ever', async (file, type) => {
    const { text: page } = await gateway.get('/docs');
    const address = addressesIn(page).find((candidate) => candidate.startsWith(`docs/${file}?`))!;
    const zipped = await gateway.get(`/${address}`);
    expect(zipped.headers.get('content-type')).toBe(type);
    expect(zipped.headers.get('content-encoding')).toBe('gzip');
    expect(zipped.headers.get('cache-control')).toBe('public, max-age=31536000, immutable');
    const plain = await exchange(gateway.url, { path: `/${address}` });
    expect(plain.headers['content-encoding']).toBeUndefined();
    expect(plain.text).toBe(zipped.text);
    const known = { 'If-None-Match': zipped.headers.get('etag') ?? '' };
    expect((await gateway.get(`/${address}`, known)).status).toBe(304);
  });

  test.each([
    'index.html',
    'swagger-initializer.js',
    'swagger-ui-bundle.js.map',
    '..%2fopenapi.ts',
    '%00',
    'constructor',
  ])('/docs/%s is not there', async (file) => {
    expect((await gateway.get(`/docs/${file}`)).status).toBe(404);
  });

  test('its files are for GET and HEAD', async () => {
    const path = '/docs/start.js';
    const posted = await gateway.post(path, {});
    expect(posted.status).toBe(405);
    expect(posted.headers.get('allow')).toBe('GET, HEAD');
    const head = await exchange(gateway.url, { method: 'HEAD', path });
    expect(head).toMatchObject({ status: 200, text: '' });
  });
});

describe('GET /', () => {
  test('links to what there is', async () => {
    const { headers, text } = await gateway.get('/');
    expect(headers.get('content-type')).toBe('text/html; charset=utf-8');
    expect(headers.get('content-security-policy')).toMatch(
      /^default-src 'none'; style-src 'sha256-/,
    );
    expect(addressesIn(text)).toEqual(['graphql', 'portal', 'docs', 'openapi.json', 'readyz']);
    for (const address of addressesIn(text)) {
      expect((await gateway.get(`/${address}`, { Accept: 'text/html' })).status).toBe(200);
    }
  });

  test('has no link to a GraphiQL that is off', async () => {
    const closed = await world.start({ settings: { GRAPHIQL: 'off' } });
    const { text } = await closed.get('/');
    expect(addressesIn(text)).toEqual(['docs', 'openapi.json', 'readyz']);
  });
});

test('a page’s Vary stands beside that of CORS', async () => {
  const origin = 'https://portal.example.com';
  const open = await world.start({ settings: { CORS_ORIGINS: origin } });
  const { headers } = await open.get('/openapi.json', { Origin: origin });
  expect(headers.get('vary')).toBe('Origin, Accept-Encoding');
});
