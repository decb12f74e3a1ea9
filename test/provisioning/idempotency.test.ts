import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { scriptFailpoints } from './failpoints.ts';
import { createTenant, makeTenant } from './tenants.ts';

const failpoints = scriptFailpoints();
let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({ failpoints });
});
afterEach(() => failpoints.clear());
afterAll(() => world.close());

async function tenantCount(name: string): Promise<number> {
  const rows = await world.query('SELECT 1 FROM control_plane.tenants WHERE name = $1', [name]);
  return rows.length;
}

describe('Mutation.createTenant with an idempotencyKey', () => {
  test('answers the same again, key included, and makes nothing', async () => {
    const input = { name: 'Twice', slug: 'twice', idempotencyKey: 'twice' };
    const first = await makeTenant(gateway, input);
    expect(await createTenant(gateway, input)).toEqual(first);
    expect(await tenantCount('Twice')).toBe(1);
  });

  test('answers the same on another instance', async () => {
    const input = { name: 'Elsewhere', idempotencyKey: 'elsewhere' };
    const first = await makeTenant(gateway, input);
    const other = await world.start();
    expect(await createTenant(other, input)).toEqual(first);
    await other.close();
  });

  test.each([
    ['another name', { name: 'Payload 2' }],
    ['one field more', { name: 'Payload', description: 'more' }],
    ['another setting', { name: 'Payload', settings: { limits: { users: 7 } } }],
  ])('refuses the same key with another payload: %s', async (_what, input) => {
    const idempotencyKey = `payload: ${_what}`;
    await makeTenant(gateway, { name: 'Payload', idempotencyKey });
    const payload = await createTenant(gateway, { ...input, idempotencyKey });
    expect(payload).toMatchObject({ tenant: null, operation: null, apiKey: null });
    expect(payload.userErrors).toMatchObject([
      { code: 'IDEMPOTENCY_MISMATCH', field: ['input', 'idempotencyKey'] },
    ]);
    expect(await tenantCount('Payload 2')).toBe(0);
  });

  test.each([
    ['wait', { wait: false }],
    ['null instead of absent', { domain: null, settings: null }],
  ])('takes it for the same payload: %s', async (what, more) => {
    const input = { name: 'Alike', idempotencyKey: `alike: ${what}` };
    const first = await makeTenant(gateway, input);
    const again = await createTenant(gateway, { ...input, ...more });
    expect(again.operation?.id).toBe(first.operation.id);
  });

  test('releases the key after an input error', async () => {
    const idempotencyKey = 'input error';
    const wrong = await createTenant(gateway, { name: '', idempotencyKey });
    expect(wrong.userErrors).toMatchObject([{ code: 'INVALID', field: ['input', 'name'] }]);
    await makeTenant(gateway, { name: 'Right', idempotencyKey });
  });

  test('releases the key when a name is taken', async () => {
    const idempotencyKey = 'taken';
    await makeTenant(gateway, { name: 'Holder', slug: 'held' });
    const taken = await createTenant(gateway, { name: 'Late', slug: 'held', idempotencyKey });
    expect(taken.userErrors).toMatchObject([{ code: 'TAKEN' }]);
    await makeTenant(gateway, { name: 'Late', slug: 'free', idempotencyKey });
  });

  test('releases the key after a failure that was undone: the retry starts anew', async () => {
    const input = { name: 'Anew', slug: 'anew', idempotencyKey: 'anew' };
    failpoints.fail('verify_connection:before');
    const failed = await createTenant(gateway, input);
    expect(failed.userErrors).toMatchObject([{ code: 'PROVISIONING_FAILED' }]);
    failpoints.clear();
    const made = await makeTenant(gateway, input);
    expect(made.operation.id).not.toBe(failed.operation?.id);
  });

  test('tells those who wait on a failing operation of the failure', async () => {
    const held = failpoints.hold('verify_connection:before');
    failpoints.fail('encrypt_credentials:before');
    const input = { name: 'Together', slug: 'together', idempotencyKey: 'together' };
    const first = createTenant(gateway, input);
    await held.reached;
    const second = createTenant(gateway, input);
    const third = createTenant(gateway, { ...input, wait: false });
    expect(await third).toMatchObject({ apiKey: null, userErrors: [] });
    held.release();
    const outcome = await first;
    expect(outcome.userErrors).toMatchObject([{ code: 'PROVISIONING_FAILED' }]);
    expect((await second).userErrors).toEqual(outcome.userErrors);
  });

  test('an expired key makes room', async () => {
    const input = { name: 'Old', idempotencyKey: 'old' };
    const first = await makeTenant(gateway, input);
    await world.query(
      `UPDATE control_plane.idempotency_records SET expires_at = now() WHERE key = 'old'`,
    );
    const second = await makeTenant(gateway, input);
    expect(second.tenant.id).not.toBe(first.tenant.id);
  });

  test.each([
    ['the header alone', undefined, 'from header', 'from header'],
    ['both alike', 'both', 'both', 'both'],
  ])('takes the Idempotency-Key header: %s', async (_what, idempotencyKey, header, key) => {
    await postWithHeader({ name: 'Header', idempotencyKey }, header);
    const rows = await world.query(
      'SELECT key FROM control_plane.idempotency_records WHERE key = $1',
      [key],
    );
    expect(rows).toHaveLength(1);
  });

  test('refuses a header and an argument that differ', async () => {
    const text = await postWithHeader({ name: 'Differ', idempotencyKey: 'a' }, 'b');
    expect(text).toContain('INVALID');
    expect(await tenantCount('Differ')).toBe(0);
  });
});

describe('Mutation.createTenant with wait: false', () => {
  test('answers at once, without the key; the replay shows it once the tenant is active', async () => {
    const held = failpoints.hold('create_role:before');
    const input = { name: 'Patient', idempotencyKey: 'patient', wait: false };
    const accepted = await createTenant(gateway, input);
    expect(accepted).toMatchObject({
      tenant: { status: 'PROVISIONING', apiKeys: [] },
      operation: { status: 'RUNNING' },
      apiKey: null,
      userErrors: [],
    });
    await held.reached;
    expect(await createTenant(gateway, input)).toMatchObject({
      tenant: { id: accepted.tenant?.id, status: 'PROVISIONING' },
      apiKey: null,
    });
    held.release();
    const done = await createTenant(gateway, { ...input, wait: true });
    expect(done).toMatchObject({
      tenant: { id: accepted.tenant?.id, status: 'ACTIVE' },
      apiKey: expect.stringMatching(/^tk_/) as string,
    });
    expect(await createTenant(gateway, input)).toEqual(done);
  });
});

test('a client that closes its connection cancels nothing', async () => {
  const held = failpoints.hold('create_database:before');
  const input = { name: 'Gone client', idempotencyKey: 'gone client' };
  const leaving = new AbortController();
  const request = fetch(`${gateway.url}/graphql`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ query: mutation, variables: { input } }),
    signal: leaving.signal,
  });
  await held.reached;
  leaving.abort();
  await expect(request).rejects.toThrow();
  held.release();
  expect(await createTenant(gateway, input)).toMatchObject({
    tenant: { status: 'ACTIVE' },
    apiKey: expect.stringMatching(/^tk_/) as string,
  });
  expect(await tenantCount('Gone client')).toBe(1);
});

const mutation = `mutation ($input: CreateTenantInput!) {
  createTenant(input: $input) { userErrors { code } }
}`;

async function postWithHeader(input: object, key: string): Promise<string> {
  const answer = await gateway.post(
    '/graphql',
    { query: mutation, variables: { input } },
    { 'Idempotency-Key': key },
  );
  return answer.text;
}
