import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { scriptFailpoints } from '../provisioning/failpoints.ts';

let world: World;
let gateway: TestGateway;
const failpoints = scriptFailpoints();
const key = expect.stringMatching(/^tk_[a-z0-9_]{1,8}_/) as string;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({ failpoints });
});
afterAll(() => world.close());
beforeEach(() => {
  failpoints.clear();
});

function tenant(name: string, more: object = {}) {
  const domain = `${name.replaceAll('_', '-')}.example.com`;
  return { tenant_name: name, domain, schema_name: `${name}_c`, ...more };
}

interface BatchBody {
  readonly success: boolean;
  readonly message: string;
  readonly results: readonly Record<string, unknown>[];
  readonly summary: Record<string, number>;
}

function bodyOf({ json }: { readonly json: unknown }): BatchBody {
  return json as BatchBody;
}

describe('POST /api/tenants', () => {
  test('answers 201 with the documented fields and the key; the domain of three labels passes', async () => {
    const body = { tenant_name: 'demo_company', domain: 'demo.example.com', schema_name: 'demo' };
    const answer = await gateway.post('/api/tenants', body);
    expect(answer.status).toBe(201);
    expect(answer.json).toEqual({
      tenant_name: 'demo_company',
      status: 'success',
      tenant_id: expect.any(Number) as number,
      api_key: expect.stringMatching(/^tk_demo_com_/) as string,
      schema_name: 'demo',
      domain: 'demo.example.com',
    });
  });

  test('contract B goes on beside it, without a key', async () => {
    const answer = await gateway.post('/api/tenants', { name: 'Beside', slug: 'c-beside' });
    expect(answer.status).toBe(201);
    expect(answer.text).not.toContain('tk_');
    const { json } = await gateway.get('/api/tenants');
    expect((json as { tenants: object[] }).tenants).toContainEqual(
      expect.objectContaining({ tenant_name: 'demo_company', schema_name: 'demo' }),
    );
  });

  test.each([
    ['no domain', { domain: undefined }, 'Missing required field: domain'],
    ['no schema name', { schema_name: undefined }, 'Missing required field: schema_name'],
    ['a domain without dots', { domain: 'localhost' }, /^Invalid domain format: /],
    ['a domain that is a number', { domain: 7 }, /^Invalid domain format: /],
    ['a schema name with a hyphen', { schema_name: 'a-b' }, /^Invalid schema name: /],
    ['a reserved schema name', { schema_name: 'pg_mine' }, /^Invalid schema name: /],
    ['an unknown feature', { settings: { features: ['flying'] } }, /features must be out of/],
    ['no users', { settings: { limits: { users: 0 } } }, /users must be a whole number/],
    ['too much storage', { settings: { limits: { storage_gb: 1001 } } }, /storage_gb must be/],
    ['a name of 256 characters', { tenant_name: 'n'.repeat(256) }, /tenant_name/],
  ])('answers 400 to %s', async (_what, change, message) => {
    const answer = await gateway.post('/api/tenants', tenant('invalid', change));
    expect(answer.status).toBe(400);
    const { error } = answer.json as { error: { code: string; message: string } };
    expect(error.code).toBe('VALIDATION_ERROR');
    expect(error.message).toMatch(message);
  });

  test('answers 409 to what is taken', async () => {
    await gateway.post('/api/tenants', tenant('first'));
    const domain = await gateway.post(
      '/api/tenants',
      tenant('second', { domain: 'FIRST.example.com' }),
    );
    expect([domain.status, domain.json]).toEqual([
      409,
      { error: { code: 'CONFLICT', message: 'Domain already exists: FIRST.example.com' } },
    ]);
    const schema = await gateway.post('/api/tenants', tenant('third', { schema_name: 'first_c' }));
    expect([schema.status, schema.json]).toEqual([
      409,
      { error: { code: 'CONFLICT', message: 'Schema already exists: first_c' } },
    ]);
  });

  test('answers 202 to Prefer: respond-async', async () => {
    const answer = await gateway.post('/api/tenants', tenant('async'), { Prefer: 'respond-async' });
    expect(answer.status).toBe(202);
    expect(answer.headers.get('location')).toMatch(/^\/api\/operations\//);
  });
});

describe('POST /api/tenants/batch', () => {
  test('answers 201 when all were made, and shows each key once', async () => {
    const tenants = [tenant('alla'), tenant('allb')];
    const headers = { 'Idempotency-Key': 'all' };
    const answer = await gateway.post('/api/tenants/batch', { tenants }, headers);
    expect(answer.status).toBe(201);
    expect(answer.json).toEqual({
      success: true,
      message: 'Batch tenant provisioning completed',
      results: tenants.map(({ domain, schema_name, tenant_name }) => ({
        tenant_name,
        status: 'success',
        tenant_id: expect.any(Number) as number,
        api_key: key,
        schema_name,
        domain,
      })),
      summary: {
        total_requested: 2,
        successful: 2,
        failed: 0,
        processing_time_ms: expect.any(Number) as number,
      },
    });
    const replayed = await gateway.post('/api/tenants/batch', { tenants }, headers);
    expect([replayed.status, replayed.json]).toEqual([201, answer.json]);
    const other = await gateway.post('/api/tenants/batch', { tenants: [tenant('allc')] }, headers);
    expect(other.status).toBe(422);
  });

  const mixed = [
    tenant('mixed_a'),
    tenant('mixed_b', { domain: undefined }),
    tenant('mixed_c', { domain: 'MIXED-A.example.com' }),
    tenant('mixed_d', { schema_name: 'mixed_a_c' }),
    tenant('mixed_e', { tenant_name: 5 }),
    tenant('mixed_f', { domain: 'nowhere' }),
  ];

  test('answers 207 when some failed, each with its own message', async () => {
    const answer = await gateway.post('/api/tenants/batch', { tenants: mixed });
    expect(answer.status).toBe(207);
    const { results, success, summary } = bodyOf(answer);
    expect(success).toBe(false);
    expect(summary).toMatchObject({ total_requested: 6, successful: 1, failed: 5 });
    expect(results.map(({ status }) => status)).toEqual([
      'success',
      ...Array<string>(5).fill('error'),
    ]);
    expect(results.slice(1).map(({ error }) => error)).toEqual([
      'Missing required field: domain',
      'Domain already exists: MIXED-A.example.com',
      'Schema already exists: mixed_a_c',
      expect.stringContaining('tenant_name'),
      expect.stringMatching(/^Invalid domain format: /),
    ]);
    expect(answer.text.match(/tk_/g)).toHaveLength(1);
  });

  test('atomic: 400 when one is invalid, 409 when one is taken, and nothing is made', async () => {
    const good = tenant('whole');
    const invalid = await gateway.post('/api/tenants/batch', {
      tenants: [good, tenant('half', { domain: 'nowhere' })],
      atomic: true,
    });
    expect(invalid.status).toBe(400);
    expect(bodyOf(invalid)).toMatchObject({
      success: false,
      results: [
        { tenant_name: 'whole', status: 'rolled_back' },
        {
          tenant_name: 'half',
          status: 'error',
          error: expect.stringMatching(/^Invalid domain/) as string,
        },
      ],
      summary: { total_requested: 2, successful: 0, failed: 2 },
    });
    const taken = await gateway.post('/api/tenants/batch', {
      tenants: [good, tenant('half', { domain: 'first.example.com' })],
      atomic: true,
    });
    expect(taken.status).toBe(409);
    expect(bodyOf(taken).results[1]).toEqual({
      tenant_name: 'half',
      status: 'error',
      error: 'Domain already exists: first.example.com',
    });
    const [row] = await world.query(`SELECT id FROM control_plane.tenants WHERE name = 'whole'`);
    expect(row).toBeUndefined();
  });

  test('atomic: 500 when one fails on the way, and nothing is left', async () => {
    failpoints.fail('verify_connection:before', 1);
    const answer = await gateway.post('/api/tenants/batch', {
      tenants: [
        tenant('fall-a', { schema_name: 'fall_a' }),
        tenant('fall-b', { schema_name: 'fall_b' }),
      ],
      atomic: true,
    });
    expect(answer.status).toBe(500);
    const { results, success } = bodyOf(answer);
    expect(success).toBe(false);
    expect(results.map(({ status }) => status).sort()).toEqual(['error', 'rolled_back']);
    expect(answer.text).not.toContain('tk_');
  });

  test.each([
    ['no tenants', []],
    ['51', Array.from({ length: 51 }, (_, index) => tenant(`n${index}`))],
    ['a number', 7],
    ['a list of numbers', [1]],
    ['a list with null', [tenant('beside'), null]],
    ['a text', 'all'],
    ['nested lists', [[tenant('nested')]]],
    ['null', null],
  ])('answers 400 to %s', async (_what, tenants) => {
    const answer = await gateway.post('/api/tenants/batch', { tenants });
    expect(answer.status).toBe(400);
    expect(answer.json).toHaveProperty('error.code');
  });

  test('10,000 are refused', async () => {
    const tenants = Array.from({ length: 10_000 }, (_, index) => tenant(`n${index}`));
    const answer = await gateway.post('/api/tenants/batch', { tenants });
    expect([400, 413]).toContain(answer.status);
  });

  test('answers 202 to Prefer: respond-async, with the batch to follow', async () => {
    const tenants = [
      tenant('slow-a', { schema_name: 'slow_a' }),
      tenant('slow-b', { schema_name: 'slow_b' }),
    ];
    const answer = await gateway.post(
      '/api/tenants/batch',
      { tenants },
      { Prefer: 'respond-async' },
    );
    expect(answer.status).toBe(202);
    const { id } = answer.json as { id: string };
    const location = answer.headers.get('location') ?? '';
    expect(location).toBe(`/api/batches/${id}`);
    await expect
      .poll(async () => (await gateway.get(location)).json, { timeout: 20_000 })
      .toMatchObject({ status: 'succeeded', summary: { successful: 2 } });
    expect((await gateway.get(location)).text).not.toContain('tk_');
  });
});

describe('a tenant by its number or UUID', () => {
  test('GET /api/tenants/{tenant_id}/status', async () => {
    const [row] = await world.query<{ id: string; number: number }>(
      `SELECT id, number::int FROM control_plane.tenants WHERE name = 'demo_company'`,
    );
    for (const id of [row!.id, row!.number]) {
      const { json, status } = await gateway.get(`/api/tenants/${id}/status`);
      expect(status).toBe(200);
      expect(json).toEqual({
        tenant_id: row!.number,
        tenant_name: 'demo_company',
        status: 'active',
        schema_status: 'provisioned',
        migration_version: expect.stringMatching(/^\d{14}_/) as string,
        created_at: expect.any(String) as string,
        last_activity: null,
      });
    }
    expect((await gateway.get('/api/tenants/999999/status')).status).toBe(404);
  });

  test('POST /api/tenants/{tenant_id}/api-key/rotate', async () => {
    const made = await gateway.post('/api/tenants', tenant('rotated'));
    const { api_key, tenant_id } = made.json as { api_key: string; tenant_id: number };
    const rotate = (headers = {}) =>
      gateway.post(`/api/tenants/${tenant_id}/api-key/rotate`, '', headers);
    const answer = await rotate({ 'Idempotency-Key': 'rotate' });
    expect(answer.status).toBe(200);
    expect(answer.json).toEqual({
      tenant_id,
      api_key: expect.stringMatching(/^tk_rotated_/) as string,
      previous_key_expires_at: expect.any(String) as string,
    });
    expect((answer.json as { api_key: string }).api_key).not.toBe(api_key);
    expect((await rotate({ 'Idempotency-Key': 'rotate' })).json).toEqual(answer.json);
    expect((await gateway.post('/api/tenants/999999/api-key/rotate', '')).status).toBe(404);
  });
});
