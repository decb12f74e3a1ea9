import { createConfig, lintFromString } from '@redocly/openapi-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { chapter } from '../../src/http/service-docs.ts';
import { codeForm } from '../../src/rest/errors.ts';
import { dialects } from '../../src/rest/index.ts';
import { describeApi } from '../../src/rest/openapi.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { exchange } from '../http/wire.ts';
import {
  createCheck,
  operationsOf,
  readDocument,
  requestOf,
  type ApiDocument,
} from './openapi-document.ts';

let world: World;
let gateway: TestGateway;
let document: ApiDocument;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
  document = await readDocument(gateway.url);
});
afterAll(() => world.close());

async function lint(text: string): Promise<string[]> {
  const config = await createConfig({ extends: ['recommended-strict'] });
  const problems = await lintFromString({ source: text, config });
  return problems.map(
    ({ ruleId, message, location }) => `${ruleId} ${location[0]?.pointer ?? ''}: ${message}`,
  );
}

describe('GET /openapi.json', () => {
  test('the linter finds nothing, and would', async () => {
    const { text } = await gateway.get('/openapi.json');
    expect(await lint(text)).toEqual([]);
    expect(await lint(text.replace('"acme_corp"', '7'))).not.toEqual([]);
    expect(await lint(text.replace('#/components/schemas/Tenant', '#/nowhere'))).not.toEqual([]);
  });

  test('every route of the contracts is there, and nothing that is not served', async () => {
    const documented = operationsOf(document).map(({ method, path }) => `${method} ${path}`);
    const inTables = dialects.flatMap(({ routes }) =>
      routes.map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)/g, '{$1}')}`),
    );
    const beside = ['/livez', '/readyz', '/openapi.json', '/docs', '/portal', '/'];
    const served = new Set([...inTables, ...beside.map((path) => `GET ${path}`)]);
    expect(documented.sort()).toEqual([...served].sort());
    for (const operation of operationsOf(document)) {
      const { status, json } = await exchange(gateway.url, requestOf(operation, undefined));
      // A path that leads nowhere has another spelling of this than a tenant that is not there.
      expect(json).not.toEqual({ error: { code: 'NOT_FOUND', message: 'Not Found' } });
      expect(status).not.toBe(405);
    }
  });

  test('what the other tests check answers with is strict', async () => {
    const check = createCheck(document);
    const operation = operationsOf(document).find(({ path }) => path === '/livez')!;
    const answer = await exchange(gateway.url, { path: '/livez' });
    check(operation, answer);
    const { 'x-request-id': _, ...fewer } = answer.headers;
    for (const wrong of [
      { ...answer, status: 201 },
      { ...answer, json: { status: 'ok', more: 1 } },
      { ...answer, json: { status: 'fine' } },
      { ...answer, headers: fewer },
      { ...answer, headers: { ...answer.headers, location: '/' } },
      { ...answer, headers: { ...answer.headers, 'content-type': 'text/plain' } },
    ]) {
      expect(() => {
        check(operation, wrong);
      }).toThrow();
    }
  });

  test('in open mode, credentials are needed nowhere; else everywhere', async () => {
    expect(document.security).toEqual([{}, { bearer: [] }, { apiKey: [] }]);
    const service = { docs: chapter, errors: codeForm, routes: [] };
    const closed = describeApi({ publicUrl: 'https://api.tenantry.test', open: false, service });
    expect(closed['security']).toEqual([{ bearer: [] }, { apiKey: [] }]);
    expect(await lint(JSON.stringify(closed))).toEqual([]);
  });

  test('rules of texts are those that hold', () => {
    expect(document.components.schemas['NewTenantA']).toMatchObject({
      required: ['name', 'environment'],
      properties: {
        name: { type: 'string', minLength: 1, maxLength: 255, pattern: '^[^\\u0000]*$' },
        environment: { enum: ['development', 'staging', 'production'] },
      },
    });
    expect(document.components.schemas['NewTenantB']).toMatchObject({
      properties: { slug: { maxLength: 48, pattern: '^[a-z][a-z0-9]*([-_][a-z0-9]+)*$' } },
    });
    expect(document.paths['/api/tenants']?.['get']?.parameters).toContainEqual({
      name: 'limit',
      in: 'query',
      required: false,
      description: 'How many a page.',
      schema: { type: 'integer', minimum: 1, maximum: 100, default: 50 },
      example: 50,
    });
  });

  test('is revalidated, compressed, and says where the API is', async () => {
    expect(document.servers).toEqual([{ url: '/' }]);
    const first = await gateway.get('/openapi.json');
    expect(first.headers.get('content-type')).toBe('application/json; charset=utf-8');
    expect(first.headers.get('content-encoding')).toBe('gzip');
    expect(first.headers.get('vary')).toContain('Accept-Encoding');
    const etag = first.headers.get('etag') ?? '';
    for (const known of [etag, `W/${etag}`, `"other", ${etag}`]) {
      const again = await gateway.get('/openapi.json', { 'If-None-Match': known });
      expect(again).toMatchObject({ status: 304, text: '' });
    }
    expect((await gateway.get('/openapi.json', { 'If-None-Match': '"x"' })).status).toBe(200);
    const plain = await exchange(gateway.url, { path: '/openapi.json' });
    expect(plain.headers['content-encoding']).toBeUndefined();
    expect(plain.text).toBe(first.text);

    const elsewhere = await world.start({
      settings: { PUBLIC_URL: 'https://api.tenantry.test/x/' },
    });
    const { servers } = await readDocument(elsewhere.url);
    expect(servers).toEqual([{ url: 'https://api.tenantry.test/x' }]);
  });
});
