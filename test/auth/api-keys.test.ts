import type { Knex } from 'knex';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createApiKeyRecogniser } from '../../src/auth/api-key.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { makeTenant } from '../provisioning/tenants.ts';
import { bearer, startWithTokens } from '../tokens.ts';

let world: World;
let gateway: TestGateway;
let other: TestGateway;
let admin: { Authorization: string };

interface Key {
  readonly tenantId: string;
  readonly apiKey: string;
}
interface Rotation {
  tenant: { id: string } | null;
  apiKey: string | null;
  previousKeyExpiresAt: string | null;
  userErrors: { code: string }[];
}

beforeAll(async () => {
  world = await createWorld();
  gateway = await startWithTokens(world, { API_KEY_OVERLAP_SECONDS: '3600' });
  other = await startWithTokens(world, { API_KEY_OVERLAP_SECONDS: '0' });
  admin = await bearer({ roles: ['platform-admin'] });
});
afterAll(() => world.close());

let count = 0;
/** A tenant with its first key. */
async function newTenant(): Promise<Key> {
  const name = `keys ${(count += 1)}`;
  const document =
    'mutation ($input: CreateTenantInput!) { createTenant(input: $input) { tenant { id } apiKey } }';
  const { createTenant } = await as(admin).graphql<{
    createTenant: { tenant: { id: string }; apiKey: string };
  }>(document, { input: { name } });
  return { tenantId: createTenant.tenant.id, apiKey: createTenant.apiKey };
}

function as(headers: Record<string, string>, at = gateway) {
  return {
    async graphql<T>(query: string, variables: object = {}): Promise<T> {
      const answer = await at.post('/graphql', { query, variables }, headers);
      const { data, errors } = answer.json as { data: T; errors?: unknown };
      if (errors !== undefined) throw new Error(JSON.stringify(errors));
      return data;
    },
  };
}
const viewer = { query: '{ viewer { kind subject partner permissions } }' };
const status = async (apiKey: string, at = gateway): Promise<number> =>
  (await at.post('/graphql', viewer, { 'X-API-Key': apiKey })).status;
const rotate = async (
  headers: Record<string, string>,
  input: object,
  at = gateway,
): Promise<Rotation> =>
  (
    await as(headers, at).graphql<{ rotateTenantApiKey: Rotation }>(
      `mutation ($input: RotateTenantApiKeyInput!) { rotateTenantApiKey(input: $input) {
        tenant { id } apiKey previousKeyExpiresAt userErrors { code } } }`,
      { input },
    )
  ).rotateTenantApiKey;

describe('an API key as a credential', () => {
  test.for([
    ['X-API-Key', (key: string) => ({ 'X-API-Key': key })],
    ['Authorization: Bearer', (key: string) => ({ Authorization: `Bearer ${key}` })],
    ['authorization: bearer', (key: string) => ({ authorization: `bearer ${key}` })],
  ] as const)('%s: is the tenant, which reads itself and nobody else', async ([, present]) => {
    const { tenantId, apiKey } = await newTenant();
    const stranger = await newTenant();
    const own = as(present(apiKey));
    expect(await own.graphql(viewer.query)).toEqual({
      viewer: {
        kind: 'TENANT',
        subject: tenantId,
        partner: 'platform',
        permissions: ['tenant:read'],
      },
    });
    const seen = await own.graphql<Record<string, { nodes?: object[] }>>(
      `query ($own: ID!, $other: ID!) { own: tenant(id: $own) { id } other: tenant(id: $other) { id }
        tenants { nodes { id } totalCount } operations { nodes { tenant { id } } totalCount }
        tenantsPage(page: 1, limit: 10) { nodes { id } total } }`,
      { own: tenantId, other: stranger.tenantId },
    );
    expect(seen).toEqual({
      own: { id: tenantId },
      other: null,
      tenants: { nodes: [{ id: tenantId }], totalCount: 1 },
      operations: { nodes: [{ tenant: { id: tenantId } }], totalCount: 1 },
      tenantsPage: { nodes: [{ id: tenantId }], total: 1 },
    });
    const list = await gateway.get('/api/tenants', present(apiKey));
    expect(list.json).toMatchObject({ tenants: [{ id: tenantId }], pagination: { total: 1 } });
    expect((await gateway.get(`/api/tenants/${stranger.tenantId}`, present(apiKey))).status).toBe(
      404,
    );
  });

  test('with one character changed is refused, without a query', async () => {
    const { apiKey } = await newTenant();
    const control = new Proxy(() => undefined, {
      get: () => {
        throw new Error('a query');
      },
    }) as unknown as Knex;
    const recognise = createApiKeyRecogniser({ control, prefix: 'tk_' });
    await expect(recognise({ authorization: null, apiKey })).rejects.toThrow('a query');
    for (let index = 0; index < apiKey.length; index += 1) {
      const changed = apiKey.slice(0, index) + (apiKey[index] === 'a' ? 'b' : 'a');
      const typo = changed + apiKey.slice(index + 1);
      const refused = recognise({ authorization: null, apiKey: typo });
      await expect(refused).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
      if (index % 9 === 0) expect(await status(typo)).toBe(401);
    }
  });

  test('that its tenant never had is refused, though its checksum is right', async () => {
    const { apiKey, tenantId } = await newTenant();
    await world.query('DELETE FROM control_plane.api_keys WHERE tenant_id = $1', [tenantId]);
    expect(await status(apiKey)).toBe(401);
  });

  test.for([
    [
      'without effect yet',
      'UPDATE control_plane.api_keys SET activated_at = NULL WHERE tenant_id = $1',
    ],
    [
      'expired',
      "UPDATE control_plane.api_keys SET expires_at = now() - interval '1 ms' WHERE tenant_id = $1",
    ],
    ['revoked', 'UPDATE control_plane.api_keys SET revoked_at = now() WHERE tenant_id = $1'],
    [
      'of a suspended tenant',
      "UPDATE control_plane.tenants SET status = 'SUSPENDED' WHERE id = $1",
    ],
    [
      'whose hash differs',
      'UPDATE control_plane.api_keys SET hash = sha256(hash) WHERE tenant_id = $1',
    ],
  ] as const)('%s is refused', async ([, change]) => {
    const { apiKey, tenantId } = await newTenant();
    expect(await status(apiKey)).toBe(200);
    await world.query(change, [tenantId]);
    const answer = await gateway.post('/graphql', viewer, { 'X-API-Key': apiKey });
    expect(answer.status).toBe(401);
    expect(answer.headers.get('www-authenticate')).toBe('Bearer');
    expect(answer.text).not.toContain(apiKey);
  });

  test('of a deleted tenant is refused', async () => {
    const { apiKey, tenantId } = await newTenant();
    expect((await gateway.get(`/api/tenants/${tenantId}`, { 'X-API-Key': apiKey })).status).toBe(
      200,
    );
    await as(admin).graphql(
      'mutation ($id: ID!) { deleteTenant(input: { id: $id }) { userErrors { code } } }',
      { id: tenantId },
    );
    expect(await status(apiKey)).toBe(401);
  });

  test('is noted when it is used, once a minute', async () => {
    const { apiKey, tenantId } = await newTenant();
    const used = async (): Promise<unknown> =>
      (
        await world.query(
          `SELECT last_used_at, last_activity_at FROM control_plane.api_keys k
           JOIN control_plane.tenants t ON t.id = tenant_id WHERE t.id = $1`,
          [tenantId],
        )
      )[0];
    expect(await used()).toEqual({ last_used_at: null, last_activity_at: null });
    await status(apiKey);
    const first = await used();
    expect(first).toEqual({
      last_used_at: expect.any(Date) as Date,
      last_activity_at: expect.any(Date) as Date,
    });
    await status(apiKey);
    expect(await used()).toEqual(first);
    await world.query(
      "UPDATE control_plane.api_keys SET last_used_at = now() - interval '61 s' WHERE tenant_id = $1",
      [tenantId],
    );
    await status(apiKey);
    expect(await used()).not.toEqual(first);
  });
});

describe('Mutation.rotateTenantApiKey', () => {
  test('gives a new key; the old one works on for a while, on every instance', async () => {
    const { tenantId, apiKey } = await newTenant();
    const {
      apiKey: fresh,
      previousKeyExpiresAt,
      userErrors,
    } = await rotate(admin, { id: tenantId });
    expect(userErrors).toEqual([]);
    expect(fresh).not.toBe(apiKey);
    const overlapMs = Date.parse(previousKeyExpiresAt!) - Date.now();
    expect(overlapMs).toBeGreaterThan(3_500_000);
    expect(overlapMs).toBeLessThanOrEqual(3_601_000);
    for (const at of [gateway, other]) {
      expect([await status(apiKey, at), await status(fresh!, at)]).toEqual([200, 200]);
    }
    // A shorter time counts for what has not ended yet; a longer one gives nothing back.
    const { apiKey: third } = await rotate(admin, { id: tenantId }, other);
    expect([await status(apiKey), await status(fresh!), await status(third!)]).toEqual([
      401, 401, 200,
    ]);
    const rows = await world.query(
      'SELECT action, outcome, details FROM control_plane.audit_log WHERE tenant_id = $1 AND action = $2',
      [tenantId, 'rotateTenantApiKey'],
    );
    expect(rows).toHaveLength(2);
    expect(JSON.stringify(rows)).not.toContain(third!);
  });

  test('a tenant rotates its own key, and nobody else’s', async () => {
    const { tenantId, apiKey } = await newTenant();
    const stranger = await newTenant();
    const own = { 'X-API-Key': apiKey };
    expect((await rotate(own, { id: stranger.tenantId })).userErrors).toMatchObject([
      { code: 'NOT_FOUND' },
    ]);
    const { apiKey: fresh } = await rotate(own, { id: tenantId });
    expect(await status(fresh!)).toBe(200);
  });

  test('the same idempotency key gives the same API key, another payload none', async () => {
    const { tenantId } = await newTenant();
    const stranger = await newTenant();
    const input = { id: tenantId, idempotencyKey: `rotate ${tenantId}` };
    const all = await Promise.all([
      rotate(admin, input),
      rotate(admin, input, other),
      rotate(admin, input),
    ]);
    expect(new Set(all.map(({ apiKey }) => apiKey)).size).toBe(1);
    expect(await rotate(admin, input)).toEqual({
      ...all[0],
      previousKeyExpiresAt: expect.any(String) as string,
    });
    expect((await rotate(admin, { ...input, id: stranger.tenantId })).userErrors).toMatchObject([
      { code: 'IDEMPOTENCY_MISMATCH' },
    ]);
  });

  test.for(['no uuid', '00000000-0000-4000-8000-000000000000'])('%s is NOT_FOUND', async (id) => {
    expect(await rotate(admin, { id })).toMatchObject({
      tenant: null,
      apiKey: null,
      userErrors: [{ code: 'NOT_FOUND' }],
    });
  });

  test('of a deleted tenant is INVALID_STATE', async () => {
    const { tenantId } = await newTenant();
    await as(admin).graphql(
      'mutation ($id: ID!) { deleteTenant(input: { id: $id }) { userErrors { code } } }',
      { id: tenantId },
    );
    expect((await rotate(admin, { id: tenantId })).userErrors).toMatchObject([
      { code: 'INVALID_STATE' },
    ]);
  });
});

describe('Mutation.revokeTenantApiKey', () => {
  const revoke = (input: object) =>
    as(admin).graphql(
      'mutation ($input: RevokeTenantApiKeyInput!) { revokeTenantApiKey(input: $input) { tenant { id apiKeys { id revokedAt } } userErrors { code field } } }',
      { input },
    );

  test('ends a key at once, on every instance; another works on', async () => {
    const { tenantId, apiKey } = await newTenant();
    const { apiKey: fresh } = await rotate(admin, { id: tenantId });
    const [{ id: apiKeyId }] = (await world.query<{ id: string }>(
      'SELECT id FROM control_plane.api_keys WHERE tenant_id = $1 ORDER BY created_at',
      [tenantId],
    )) as [{ id: string }];
    for (let time = 0; time < 2; time += 1) {
      expect(await revoke({ id: tenantId, apiKeyId })).toMatchObject({
        revokeTenantApiKey: {
          tenant: {
            id: tenantId,
            apiKeys: [
              { id: apiKeyId, revokedAt: expect.any(String) as string },
              { revokedAt: null },
            ],
          },
          userErrors: [],
        },
      });
      expect([await status(apiKey, other), await status(apiKey), await status(fresh!)]).toEqual([
        401, 401, 200,
      ]);
    }
    const rows = await world.query(
      "SELECT 1 FROM control_plane.audit_log WHERE tenant_id = $1 AND action = 'revokeTenantApiKey'",
      [tenantId],
    );
    expect(rows).toHaveLength(1);
  });

  test('a key of another tenant, or none, is NOT_FOUND', async () => {
    const { tenantId } = await newTenant();
    const stranger = await newTenant();
    const [{ id }] = (await world.query<{ id: string }>(
      'SELECT id FROM control_plane.api_keys WHERE tenant_id = $1',
      [stranger.tenantId],
    )) as [{ id: string }];
    for (const apiKeyId of [id, 'x', tenantId]) {
      expect(await revoke({ id: tenantId, apiKeyId })).toEqual({
        revokeTenantApiKey: {
          tenant: null,
          userErrors: [{ code: 'NOT_FOUND', field: ['input', 'apiKeyId'] }],
        },
      });
    }
    expect(await status(stranger.apiKey)).toBe(200);
  });
});

test('a tenant made in open mode has a key of the same kind', async () => {
  const open = await world.start();
  const { apiKey } = await makeTenant(open, { name: 'keys of open mode' });
  expect(await status(apiKey!, open)).toBe(200);
  expect(await status(apiKey!)).toBe(200);
});
