import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { all, overWebSocket } from '../progress/watch.ts';
import { isolations } from './isolations.ts';
import { becomes, letItBeTime, schedule, someDay, stateOf } from './scheduled.ts';
import { clusters, useSecondServer } from './second-server.ts';
import { asTenant, createTenant } from './tenants.ts';
import { tracesOf } from './traces.ts';

const second = useSecondServer();
let world: World;
let gateway: TestGateway;

const settings = (): Record<string, string> =>
  clusters({ name: 'one', url: world.controlUrl }, { name: 'two', url: second.url, weight: 0 });

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({ settings: settings() });
});
afterAll(() => world.close());

const inMs = (ms: number): string => new Date(Date.now() + ms).toISOString();

describe.for(isolations)('Mutation.createTenant with provisionAt, $isolation', ({ isolation }) => {
  const slug = (name: string): string => `scheduled-${isolation.toLowerCase()}-${name}`;

  test('is accepted at once, takes its names, and makes nothing', async () => {
    const provisionAt = someDay();
    const domain = `${slug('later')}.example.com`;
    const input = { name: 'Later', slug: slug('later'), domain, isolation, provisionAt };
    const { apiKey, operation, tenant, userErrors } = await schedule(gateway, input);
    expect(userErrors).toEqual([]);
    expect(tenant).toMatchObject({ status: 'SCHEDULED', provisionAt });
    expect(operation).toEqual({
      id: operation.id,
      status: 'SCHEDULED',
      percent: 0,
      startedAt: null,
      finishedAt: null,
      steps: [],
    });
    expect(apiKey).toBeNull();
    expect(await tracesOf(world, operation.id)).toMatchObject({
      places: [],
      roles: [],
      databaseStatus: 'PENDING',
      openJobs: 1,
    });
    for (const other of [{ slug: slug('later') }, { domain: domain.toUpperCase() }]) {
      const taken = await createTenant(gateway, { name: 'Other', isolation, ...other });
      expect(taken.userErrors).toMatchObject([{ code: 'TAKEN' }]);
    }
    for (const mutation of ['deleteTenant', 'updateTenant', 'rotateTenantApiKey']) {
      const answer = await gateway.graphql<Record<string, { userErrors: { code: string }[] }>>(
        `mutation ($id: ID!) { ${mutation}(input: { id: $id }) { userErrors { code } } }`,
        { id: tenant.id },
      );
      expect(answer[mutation]!.userErrors, mutation).toMatchObject([{ code: 'INVALID_STATE' }]);
    }
    expect((await stateOf(gateway, tenant.id)).status).toBe('SCHEDULED');
  });

  test('begins at its time, and whoever asks again gets the key', async () => {
    const provisionAt = inMs(1500);
    const input = { name: 'Soon', isolation, provisionAt, idempotencyKey: slug('soon') };
    const { apiKey, operation, tenant } = await schedule(gateway, input);
    expect(apiKey).toBeNull();
    const early = await schedule(gateway, { ...input, wait: true });
    expect(early).toMatchObject({ operation: { id: operation.id }, apiKey: null, userErrors: [] });
    await becomes(gateway, tenant.id, 'ACTIVE');
    const { activatedAt } = await stateOf(gateway, tenant.id);
    expect(Date.parse(activatedAt!)).toBeGreaterThanOrEqual(Date.parse(provisionAt));
    const again = await schedule(gateway, input);
    expect(again).toMatchObject({
      tenant: { id: tenant.id, status: 'ACTIVE', provisionAt },
      operation: { id: operation.id, status: 'SUCCEEDED', percent: 100 },
      apiKey: expect.stringMatching(/^tk_/) as string,
    });
    const viewer = await gateway.post(
      '/graphql',
      { query: '{ viewer { kind } }' },
      { 'X-API-Key': again.apiKey! },
    );
    expect(viewer.json).toEqual({ data: { viewer: { kind: 'TENANT' } } });
    const { rows } = await asTenant(world, tenant.id, (client) =>
      client.query('SELECT count(*)::int AS count FROM settings'),
    );
    expect(rows).toEqual([{ count: 0 }]);
    expect(await tracesOf(world, operation.id)).toMatchObject({ openJobs: 0, secrets: null });
  });

  test('begins on another instance when the one that accepted it is gone', async () => {
    const accepting = await world.start({ settings: settings() });
    const input = { name: 'Elsewhere', isolation, provisionAt: someDay() };
    const { tenant } = await schedule(accepting, input);
    await accepting.close();
    expect((await stateOf(gateway, tenant.id)).status).toBe('SCHEDULED');
    await letItBeTime(world, tenant.id);
    await becomes(gateway, tenant.id, 'ACTIVE');
  });
});

describe('Mutation.createTenant with provisionAt', () => {
  test.for([
    ['an hour ago', -3_600_000, 'provisionAt must not lie in the past'],
    ['two years ahead', 2 * 366 * 86_400_000, 'provisionAt must be at most 366 days ahead'],
  ] as const)('is refused when it is %s', async ([, ms, message]) => {
    const { operation, userErrors } = await schedule(gateway, { name: 'X', provisionAt: inMs(ms) });
    expect(operation).toBeNull();
    expect(userErrors).toEqual([{ code: 'INVALID', message, field: ['input', 'provisionAt'] }]);
  });

  test('a moment ago is now: clocks differ', async () => {
    const input = { name: 'Just now', isolation: 'SCHEMA', provisionAt: inMs(-5000) };
    const { tenant } = await schedule(gateway, input);
    expect(tenant.status).toBe('SCHEDULED');
    await becomes(gateway, tenant.id, 'ACTIVE');
  });

  test('null is absent', async () => {
    const input = { name: 'At once', isolation: 'SCHEMA', provisionAt: null };
    expect((await schedule(gateway, input)).tenant).toMatchObject({
      status: 'ACTIVE',
      provisionAt: null,
    });
  });

  test('another time is another payload', async () => {
    const idempotencyKey = 'times';
    const input = { name: 'Times', isolation: 'SCHEMA', idempotencyKey };
    await schedule(gateway, { ...input, provisionAt: someDay() });
    const { userErrors } = await schedule(gateway, { ...input, provisionAt: inMs(86_400_000) });
    expect(userErrors).toMatchObject([{ code: 'IDEMPOTENCY_MISMATCH' }]);
  });

  test('its key is kept until it can be asked for', async () => {
    const input = { name: 'Kept', isolation: 'SCHEMA', idempotencyKey: 'kept' };
    const { operation } = await schedule(gateway, { ...input, provisionAt: someDay() });
    const [record] = await world.query<{ kept: boolean }>(
      `SELECT expires_at > now() + interval '30 days' AS kept
       FROM control_plane.idempotency_records WHERE operation_id = $1`,
      [operation.id],
    );
    expect(record).toEqual({ kept: true });
  });

  test('many whose time comes at once are made once each, whoever looks', async () => {
    const other = await world.start({ settings: settings() });
    const provisionAt = someDay();
    const ids: string[] = [];
    for (let index = 0; index < 12; index += 1) {
      const { tenant } = await schedule(index % 2 === 0 ? gateway : other, {
        name: `Together ${index}`,
        isolation: 'SCHEMA',
        provisionAt,
      });
      ids.push(tenant.id);
    }
    await letItBeTime(world, ...ids);
    for (const id of ids) await becomes(gateway, id, 'ACTIVE');
    const begun = await world.query<{ fence: string; begins: number }>(
      `SELECT o.fence::text, (SELECT count(*)::int FROM control_plane.audit_log a
         WHERE a.tenant_id = o.tenant_id AND a.action = 'beginScheduledTenant') AS begins
       FROM control_plane.operations o WHERE tenant_id = ANY ($1)`,
      [ids],
    );
    expect(begun).toEqual(ids.map(() => ({ fence: '1', begins: 1 })));
    await other.close();
  });

  test('a stream that is opened before its time tells the whole story', async () => {
    const input = { name: 'Watched', isolation: 'SCHEMA', provisionAt: someDay() };
    const { operation, tenant } = await schedule(gateway, input);
    const told = all(overWebSocket(gateway, { tenantId: tenant.id }));
    await letItBeTime(world, tenant.id);
    const events = await told;
    expect(events[0]).toMatchObject({ operationId: operation.id, percent: 0, status: 'STARTED' });
    expect(events.at(-1)).toMatchObject({ percent: 100, operationStatus: 'SUCCEEDED' });
  });

  test('waits for its cluster', async () => {
    const input = { name: 'Patient', isolation: 'SCHEMA', cluster: 'two', provisionAt: someDay() };
    const { tenant } = await schedule(gateway, input);
    const here = await schedule(gateway, { ...input, cluster: 'one' });
    await second.stop();
    await expect
      .poll(async () => (await gateway.get('/readyz')).text, { timeout: 20_000 })
      .toMatch(/"cluster:two":"(?!ok|up)/i);
    await letItBeTime(world, tenant.id, here.tenant.id);
    await becomes(gateway, here.tenant.id, 'ACTIVE'); // somebody has looked
    expect((await stateOf(gateway, tenant.id)).status).toBe('SCHEDULED');
    await second.start();
    await becomes(gateway, tenant.id, 'ACTIVE');
  });
});
