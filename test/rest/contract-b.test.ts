import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';

let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
});
afterAll(() => world.close());

interface ErrorBody {
  readonly error: {
    readonly code: string;
    readonly message: string;
    readonly details?: readonly { readonly field: string; readonly message: string }[];
  };
}

function errorOf(answer: { readonly json: unknown }): ErrorBody['error'] {
  return (answer.json as ErrorBody).error;
}

describe('POST /api/tenants', () => {
  test('answers 201 with the documented fields, and the database bears the slug', async () => {
    const answer = await gateway.post('/api/tenants', { name: 'Acme Corp', slug: 'b-acme' });
    expect(answer.status).toBe(201);
    expect(answer.json).toEqual({
      id: expect.stringMatching(/^[0-9a-f-]{36}$/) as string,
      name: 'Acme Corp',
      slug: 'b-acme',
      status: 'active',
      created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as string,
    });
    const { databases } = await world.leftovers();
    expect(databases).toContain('dbtools_tenant_b-acme');
  });

  test('answers 409 to a slug in use, and leaves names alone', async () => {
    await gateway.post('/api/tenants', { name: 'Twice', slug: 'b-twice' });
    const taken = await gateway.post('/api/tenants', { name: 'Other', slug: 'b-twice' });
    expect(taken.status).toBe(409);
    expect(errorOf(taken)).toEqual({
      code: 'CONFLICT',
      message: "Tenant with slug 'b-twice' already exists",
    });
    const sameName = await gateway.post('/api/tenants', { name: 'Twice', slug: 'b-twice-2' });
    expect(sameName.status).toBe(201);
  });

  test('makes one tenant of 20 equal requests at once', async () => {
    const body = { name: 'Race', slug: 'b-race' };
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => gateway.post('/api/tenants', body)),
    );
    const statuses = answers.map(({ status }) => status).sort();
    expect(statuses).toEqual([201, ...Array.from({ length: 19 }, () => 409)]);
  });

  test.each([
    ['upper case', 'Acme'],
    ['a space', 'ac me'],
    ['a quote', "ac'me"],
    ['a semicolon', 'acme;'],
    ['49 characters', 'a'.repeat(49)],
    ['a reserved word', 'health'],
    ['a hyphen at the end', 'acme-'],
    ['nothing', ''],
  ])('answers 400 to a slug with %s', async (_what, slug) => {
    const answer = await gateway.post('/api/tenants', { name: 'Acme', slug });
    expect(answer.status).toBe(400);
    const { code, message, details } = errorOf(answer);
    expect({ code, message }).toEqual({ code: 'VALIDATION_ERROR', message: 'Invalid slug format' });
    expect(details?.map(({ field }) => field)).toEqual(['slug']);
  });

  test.each([
    ['no slug', { name: 'Acme' }, 'Missing required field: slug'],
    ['no name', { slug: 'acme' }, 'Missing required field: name'],
    ['a name that is a number', { name: 1, slug: 'acme' }, 'Invalid name'],
    ['a list', [], 'Input should be a valid dictionary'],
  ])('answers 400 to %s', async (_what, body, message) => {
    const answer = await gateway.post('/api/tenants', body);
    expect(answer.status).toBe(400);
    expect(errorOf(answer).code).toBe('VALIDATION_ERROR');
    expect(errorOf(answer).message).toContain(message);
  });

  test.each([
    ['malformed JSON', '{', 400, 'VALIDATION_ERROR'],
    ['no body', '', 400, 'VALIDATION_ERROR'],
  ])('answers %s with %s', async (_what, body, status, code) => {
    const answer = await gateway.post('/api/tenants', body);
    expect([answer.status, errorOf(answer).code]).toEqual([status, code]);
  });

  test('answers 415 to a form, 405 to PUT', async () => {
    const form = { 'Content-Type': 'application/x-www-form-urlencoded' };
    expect((await gateway.post('/api/tenants', 'name=a', form)).status).toBe(415);
    const put = await fetch(`${gateway.url}/api/tenants`, { method: 'PUT' });
    expect(put.status).toBe(405);
    expect(put.headers.get('allow')).toBe('POST, GET, HEAD');
  });

  test('answers 202 to Prefer: respond-async, and the tenant comes', async () => {
    const answer = await gateway.post(
      '/api/tenants',
      { name: 'Async', slug: 'b-async' },
      { Prefer: 'respond-async' },
    );
    expect(answer.status).toBe(202);
    const location = answer.headers.get('location') ?? '';
    await expect
      .poll(async () => (await gateway.get(location)).json, { timeout: 20_000 })
      .toMatchObject({ status: 'succeeded', percent: 100 });
    expect((await gateway.get('/api/tenants/b-async')).json).toMatchObject({ status: 'active' });
  });
});

describe('GET /api/tenants/{slug}', () => {
  test('finds a tenant by slug, UUID and number', async () => {
    const made = await gateway.post('/api/tenants', { name: 'Found', slug: 'b-found' });
    const { id } = made.json as { id: string };
    const bySlug = await gateway.get('/api/tenants/b-found');
    expect(bySlug.status).toBe(200);
    const body = bySlug.json as { tenant_id: number };
    expect(body).toMatchObject({ id, name: 'Found', tenant_name: 'Found', schema_name: null });
    expect((await gateway.get(`/api/tenants/${id}`)).json).toEqual(body);
    expect((await gateway.get(`/api/tenants/${body.tenant_id}`)).json).toEqual(body);
  });

  test.each([
    'nope',
    '0',
    '999999999',
    '99999999999999999999',
    '%00',
    '%F0%9F%A6%8A',
    "a'b",
    crypto.randomUUID(),
  ])('answers 404 to %s', async (key) => {
    const answer = await gateway.get(`/api/tenants/${key}`);
    expect(answer.status).toBe(404);
    expect(errorOf(answer).code).toBe('NOT_FOUND');
  });
});
