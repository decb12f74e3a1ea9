import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import pg from 'pg';
import { isolationOf } from '../../src/provisioning/isolation/index.ts';
import { pipelineOf } from '../../src/provisioning/steps/index.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { scriptFailpoints } from './failpoints.ts';
import { isolations } from './isolations.ts';
import { connectionString } from './tenants.ts';
import { endedEvents, expectOrderly, tracesOf } from './traces.ts';

let world: World;
let gateway: TestGateway;
/** How often deletes fail from now on, by failpoint. */
const failing = new Map<string, number>();

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({
    failpoints: {
      reach(point) {
        const times = failing.get(point) ?? 0;
        if (times === 0) return Promise.resolve();
        failing.set(point, times - 1);
        return Promise.reject(new Error('failed on purpose'));
      },
    },
  });
});
afterEach(() => failing.clear());
afterAll(() => world.close());

/** Names of the steps of a kind of operation that do something. */
function stepsOf(kind: 'DELETE'): string[] {
  return pipelineOf(kind, isolationOf('DATABASE'))
    .steps.filter(({ run }) => run !== undefined)
    .map(({ name }) => name);
}

async function statusOf(operationId: string): Promise<string> {
  const { operation } = await gateway.graphql<{ operation: { status: string } }>(
    'query ($id: ID!) { operation(id: $id) { status } }',
    { id: operationId },
  );
  return operation.status;
}

interface Outcome {
  readonly tenant: {
    readonly status: string;
    readonly deletedAt: string | null;
    readonly purgeAt: string | null;
  } | null;
  readonly operation: {
    readonly id: string;
    readonly kind: string;
    readonly status: string;
    readonly error: { readonly code: string; readonly message: string } | null;
    readonly steps: readonly { readonly name: string; readonly status: string }[];
  } | null;
  readonly userErrors: readonly { readonly code: string; readonly field: string[] | null }[];
}

async function create(slug: string, more: object = {}): Promise<string> {
  const { createTenant } = await gateway.graphql<{ createTenant: { tenant: { id: string } } }>(
    `mutation ($input: CreateTenantInput!) { createTenant(input: $input) { tenant { id } } }`,
    { input: { name: slug, slug, ...more } },
  );
  return createTenant.tenant.id;
}

async function remove(id: string, more: object = {}): Promise<Outcome> {
  const { deleteTenant } = await gateway.graphql<{ deleteTenant: Outcome }>(
    `mutation ($input: DeleteTenantInput!) { deleteTenant(input: $input) {
      tenant { status deletedAt purgeAt } operation {
        id kind status error { code message } steps { name status } }
      userErrors { code field } } }`,
    { input: { id, ...more } },
  );
  return deleteTenant;
}

async function login(id: string): Promise<pg.Client> {
  const client = new pg.Client(await connectionString(world, id));
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

describe('Mutation.deleteTenant', () => {
  test.each(isolations)(
    '$isolation: closes the door, ends the sessions, keeps the data and the names',
    async ({ isolation, named, placeOf }) => {
      const slug = `gone-${isolation.toLowerCase()}`;
      const id = await create(slug, named);
      const session = await login(id);
      const ended = new Promise((resolve) => session.once('end', resolve));
      const { tenant, operation, userErrors } = await remove(id);
      expect(userErrors).toEqual([]);
      expect(tenant?.status).toBe('DELETED');
      const kept = Date.parse(tenant?.purgeAt ?? '') - Date.parse(tenant?.deletedAt ?? '');
      expect(Math.round(kept / 86_400_000)).toBe(30);
      expect(operation).toMatchObject({ kind: 'DELETE', status: 'SUCCEEDED' });
      expect(operation?.steps.map(({ name, status }) => `${name} ${status}`)).toEqual([
        'reserve SUCCEEDED',
        'disable_login SUCCEEDED',
        'mark_deleted SUCCEEDED',
        'end_sessions SUCCEEDED',
      ]);
      await ended;
      await expect(login(id)).rejects.toThrow('is not permitted to log in');
      expect((await tracesOf(world, operation!.id)).places).toEqual([placeOf(slug)]);
      const again = await gateway.post('/api/tenants', { name: 'x', slug });
      expect(again.status).toBe(409);
      const audit = await world.query<{ action: string; to_status: string }>(
        `SELECT action, to_status FROM control_plane.audit_log WHERE tenant_id = $1
       AND action LIKE '%elete%' ORDER BY id`,
        [id],
      );
      expect(audit).toEqual([
        { action: 'deleteTenant', to_status: 'DELETED' },
        { action: 'markTenantDeleted', to_status: 'DELETED' },
      ]);
    },
  );

  test('asked for twice, succeeds without an operation', async () => {
    const id = await create('twice');
    await remove(id);
    const second = await remove(id);
    expect(second).toMatchObject({
      tenant: { status: 'DELETED' },
      operation: null,
      userErrors: [],
    });
  });

  test('with one idempotency key, is one operation', async () => {
    const id = await create('keyed');
    const outcomes = await Promise.all([1, 2, 3].map(() => remove(id, { idempotencyKey: 'k' })));
    expect(new Set(outcomes.map(({ operation }) => operation?.id)).size).toBe(1);
  });

  test.each(['nope', crypto.randomUUID()])('finds no tenant %s', async (id) => {
    const { userErrors } = await remove(id);
    expect(userErrors).toEqual([{ code: 'NOT_FOUND', field: ['input', 'id'] }]);
  });

  test('is refused while deletion protection is on', async () => {
    const id = await create('kept', { deletionProtection: true });
    expect((await remove(id)).userErrors).toMatchObject([{ code: 'PROTECTED' }]);
    const answer = await fetch(`${gateway.url}/api/tenants/kept`, { method: 'DELETE' });
    expect(answer.status).toBe(409);
    expect(await answer.json()).toMatchObject({ error: { code: 'PROTECTED' } });
  });

  const points = stepsOf('DELETE').flatMap((step) => [`${step}:before`, `${step}:after`]);
  test.each(isolations.flatMap(({ isolation }) => points.map((point) => ({ isolation, point }))))(
    '$isolation: what failed at $point is tried again, and nothing is undone',
    async ({ isolation, point }) => {
      const slug = `again-${isolation.toLowerCase()}-${point.replaceAll(/[:_]/g, '-')}`;
      const id = await create(slug, { isolation });
      failing.set(point, 2);
      const { operation, tenant, userErrors } = await remove(id);
      expect(failing.get(point)).toBeLessThan(2);
      expect(userErrors).toEqual([]);
      expect(operation).toMatchObject({ status: 'SUCCEEDED', error: null });
      expect(tenant?.status).toBe('DELETED');
      await expect(login(id)).rejects.toThrow('is not permitted to log in');
      const rows = await endedEvents(world, operation!.id);
      expectOrderly(rows);
      expect(rows.map(({ status }) => status)).not.toContain('FAILED');
    },
  );

  test.each(stepsOf('DELETE').filter((step) => step !== 'disable_login'))(
    'another instance that takes it over in %s goes on forward',
    async (step) => {
      const id = await create(`taken-over-${step.replaceAll('_', '-')}`);
      const failpoints = scriptFailpoints();
      const settings = { SHUTDOWN_GRACE_SECONDS: '0' };
      const leaving = await world.start({ failpoints, settings });
      const held = failpoints.hold(`${step}:before`);
      const accepted = await leaving.graphql<{ deleteTenant: Outcome }>(
        `mutation ($id: ID!) { deleteTenant(input: { id: $id, wait: false }) {
          operation { id } } }`,
        { id },
      );
      const operationId = accepted.deleteTenant.operation!.id;
      await held.reached;
      await leaving.close();
      await expect.poll(() => statusOf(operationId), { timeout: 30_000 }).toBe('SUCCEEDED');
      await expect(login(id)).rejects.toThrow('is not permitted to log in');
      const audit = await world.query(
        `SELECT FROM control_plane.audit_log WHERE tenant_id = $1 AND action = 'markTenantDeleted'`,
        [id],
      );
      expect(audit).toHaveLength(1);
    },
    60_000,
  );

  test('one that goes on failing is RUNNING with its error, and answers TIMED_OUT', async () => {
    const id = await create('going-on');
    failing.set('mark_deleted:before', Infinity);
    const before = Date.now();
    const { operation, tenant, userErrors } = await remove(id);
    expect(userErrors).toMatchObject([{ code: 'TIMED_OUT' }]);
    expect(Date.now() - before).toBeGreaterThan(14_000);
    expect(tenant?.status).toBe('ACTIVE');
    const error = { code: 'PROVISIONING_FAILED', message: 'Step mark_deleted failed' };
    expect(operation).toMatchObject({ status: 'RUNNING', error });
    const { json, status } = await gateway.get('/readyz');
    expect(status).toBe(200);
    expect(json).toMatchObject({
      checks: { operations: 'degraded: 1 operations fail, and are tried again' },
    });
    failing.clear();
    await expect.poll(() => statusOf(operation!.id), { timeout: 40_000 }).toBe('SUCCEEDED');
    expect((await gateway.get('/readyz')).json).toMatchObject({ checks: { operations: 'ok' } });
  }, 90_000);
});

describe('DELETE /api/tenants/{slug}', () => {
  test('answers 200 with the tenant, then 404', async () => {
    await create('rest-gone');
    const target = `${gateway.url}/api/tenants/rest-gone`;
    const first = await fetch(target, { method: 'DELETE' });
    expect(first.status).toBe(200);
    expect(await first.json()).toMatchObject({ slug: 'rest-gone', status: 'deleted' });
    expect((await fetch(target, { method: 'DELETE' })).status).toBe(404);
    expect((await gateway.get('/api/tenants/rest-gone')).json).toMatchObject({ status: 'deleted' });
    expect((await fetch(`${target}-nope`, { method: 'DELETE' })).status).toBe(404);
  });
});
