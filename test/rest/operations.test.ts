import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { allSteps, scriptFailpoints } from '../provisioning/failpoints.ts';
import { path, uuid } from './contract-a.ts';

let world: World;
let gateway: TestGateway;
const failpoints = scriptFailpoints();

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({ failpoints });
});
afterAll(() => world.close());

const moment = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const respondAsync = { Prefer: 'respond-async' };

/** Asks until the operation has ended. */
async function ended(location: string): Promise<Record<string, unknown>> {
  for (;;) {
    const answer = await gateway.get(location);
    expect(answer.status).toBe(200);
    const operation = answer.json as Record<string, unknown>;
    if (operation['finished_at'] !== null) return operation;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

describe('POST /api/v1/tenants with Prefer: respond-async', () => {
  test('202 with the operation, which GET /api/operations/{id} follows to its end', async () => {
    const held = failpoints.hold('create_role:before');
    const body = { name: 'followed', environment: 'production' };
    const accepted = await gateway.post(path, body, respondAsync);
    expect(accepted.status).toBe(202);
    expect(accepted.json).toEqual({
      id: expect.stringMatching(uuid) as string,
      kind: 'create',
      status: 'running',
      percent: expect.any(Number) as number,
      steps: expect.any(Array) as unknown[],
      tenant_id: expect.stringMatching(uuid) as string,
      error: null,
      created_at: expect.stringMatching(moment) as string,
      started_at: expect.stringMatching(moment) as string,
      finished_at: null,
      duration_ms: null,
    });
    const { id, tenant_id: tenantId } = accepted.json as { id: string; tenant_id: string };
    const location = accepted.headers.get('location');
    expect(location).toBe(`/api/operations/${id}`);

    await held.reached;
    expect((await gateway.get(location!)).json).toMatchObject({ id, status: 'running' });
    held.release();
    failpoints.clear();

    const operation = await ended(location!);
    expect(operation).toMatchObject({ id, kind: 'create', status: 'succeeded', percent: 100 });
    expect(operation).toMatchObject({ tenant_id: tenantId, error: null });
    expect(operation['duration_ms']).toEqual(expect.any(Number));
    expect(operation['steps']).toEqual(
      allSteps.map((name) => ({
        name,
        status: 'succeeded',
        attempts: 1,
        started_at: expect.stringMatching(moment) as string,
        finished_at: expect.stringMatching(moment) as string,
        duration_ms: expect.any(Number) as number,
      })),
    );
  });

  test('an operation that failed says why, and that it was undone', async () => {
    failpoints.fail('create_role:before');
    const body = { name: 'doomed', environment: 'production' };
    const accepted = await gateway.post(path, body, respondAsync);
    expect(accepted.status).toBe(202);
    const operation = await ended(accepted.headers.get('location')!);
    failpoints.clear();
    expect(operation).toMatchObject({
      status: 'compensated',
      error: { code: 'PROVISIONING_FAILED', message: 'Step create_role failed' },
    });
    expect(operation['percent']).toBeLessThan(100);
  });

  test.for([
    'respond-async',
    'Respond-Async',
    'respond-async, wait=10',
    'return=minimal; foo="x",  respond-async',
    'respond-async;x=1',
  ])('Prefer: %s is 202', async (prefer) => {
    const body = { name: prefer, environment: 'staging' };
    const answer = await gateway.post(path, body, { Prefer: prefer });
    expect(answer.status).toBe(202);
    await ended(answer.headers.get('location')!);
  });

  test.for(['wait=10', 'respond-asynchronously', 'return=representation', ''])(
    'Prefer: %j is 201',
    async (prefer) => {
      const body = { name: `sync ${prefer}`, environment: 'staging' };
      const answer = await gateway.post(path, body, { Prefer: prefer });
      expect(answer.status).toBe(201);
      expect(answer.headers.has('location')).toBe(false);
    },
  );

  test('what is wrong at once is told at once', async () => {
    const invalid = await gateway.post(path, { name: '' }, respondAsync);
    expect(invalid.status).toBe(422);
    expect(invalid.headers.has('location')).toBe(false);
    const taken = await gateway.post(
      path,
      { name: 'followed', environment: 'staging' },
      respondAsync,
    );
    expect(taken.status).toBe(400);
    expect(taken.headers.has('location')).toBe(false);
  });

  test('Location begins with PUBLIC_URL', async () => {
    const settings = { PUBLIC_URL: 'https://tenants.example.com/base/' };
    const behind = await world.start({ settings });
    const body = { name: 'behind', environment: 'staging' };
    const answer = await behind.post(path, body, respondAsync);
    const { id } = answer.json as { id: string };
    const location = `https://tenants.example.com/base/api/operations/${id}`;
    expect(answer.headers.get('location')).toBe(location);
    await ended(`/api/operations/${id}`);
  });
});

describe('GET /api/operations/{id}: 404', () => {
  test.for([
    '00000000-0000-4000-8000-000000000000',
    '00000000-0000-4000-8000-00000000000g',
    '00000000000040008000000000000000',
    '{00000000-0000-4000-8000-000000000000}',
    'x',
    '1',
    '-1',
    'null',
    "'",
    '%00',
    '%',
    '%ff',
    '%E0%A4%A',
    '%F0%9F%90%98',
    '%27%20OR%201=1--',
    'x'.repeat(4000),
  ])('%s', async (id) => {
    const answer = await gateway.get(`/api/operations/${id}`);
    expect(answer.status).toBe(404);
    expect(answer.json).toEqual({ error: { code: 'NOT_FOUND', message: 'Not found' } });
  });
});
