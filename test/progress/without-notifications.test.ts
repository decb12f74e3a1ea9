import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { cleanUp, freshDirectory, start } from '../postgres/embedded/world.ts';
import { scriptFailpoints, type ScriptedFailpoints } from '../provisioning/failpoints.ts';
import { isolations } from '../provisioning/isolations.ts';
import { cancel, schedule, someDay } from '../provisioning/scheduled.ts';
import { connectionString, createTenant, makeTenant } from '../provisioning/tenants.ts';
import { endedEvents, expectOrderly } from '../provisioning/traces.ts';
import { all, overServerSentEvents, ways } from './watch.ts';

// Whatever a tenant does to the notifications of the server costs latency, and nothing else.

interface Case {
  readonly how: string;
  readonly open: () => Promise<World>;
  /** Makes every notification fail from now on. */
  readonly refuse: (world: World, gateway: TestGateway) => Promise<void>;
  readonly allow: () => Promise<void>;
}

let attacker: pg.Client | undefined;

const cases: readonly Case[] = [
  {
    how: 'a tenant has filled the queue of notifications',
    async open() {
      const dataDir = await freshDirectory(0o711);
      const serverFlags = ['fsync=off', 'shared_buffers=16MB', 'max_notify_queue_pages=64'];
      return createWorld({ serverUrl: (await start(dataDir, { serverFlags })).url });
    },
    async refuse(world, gateway) {
      const { tenant } = await makeTenant(gateway, { name: 'Hostile' });
      attacker = new pg.Client(await connectionString(world, tenant.id));
      attacker.on('error', () => undefined);
      await attacker.connect();
      const flooding = new pg.Client(await connectionString(world, tenant.id));
      await flooding.connect();
      await attacker.query('SET idle_in_transaction_session_timeout = 0; LISTEN flood');
      await attacker.query('BEGIN'); // reads no further than it is
      const flood = async (): Promise<never> => {
        for (;;) await flooding.query(`SELECT pg_notify('flood', repeat('x', 7999))`);
      };
      await expect(flood()).rejects.toMatchObject({ code: '54000' });
      await flooding.end();
    },
    async allow() {
      await attacker?.end();
    },
  },
  {
    how: 'notifications are refused',
    open: () => createWorld({ admin: 'limited' }),
    async refuse(world) {
      await world.query('REVOKE EXECUTE ON FUNCTION pg_catalog.pg_notify(text, text) FROM PUBLIC');
    },
    allow: () => Promise.resolve(),
  },
];

describe.each(cases)('$how', ({ open, refuse, allow }) => {
  let world: World;
  let failpoints: ScriptedFailpoints;
  /** It works, and another one is asked for progress. */
  let working: TestGateway;
  let other: TestGateway;

  beforeAll(async () => {
    world = await open();
    failpoints = scriptFailpoints();
    working = await world.start({ failpoints });
    other = await world.start();
    await refuse(world, working);
  });
  afterAll(async () => {
    await allow();
    await world.close();
    await cleanUp();
  });
  beforeEach(() => {
    failpoints.clear();
  });
  afterEach(() => {
    expect(working.logs()).not.toMatch(/could not be written|queue reports|brought forward/);
  });

  test.each(isolations)('$isolation: a tenant is made', async ({ named }) => {
    const { operation } = await makeTenant(working, { name: 'Unheard', ...named });
    const rows = await endedEvents(world, operation.id);
    expectOrderly(rows);
    expect(operation.percent).toBe(100);
    expect(working.logs()).toContain('listeners cannot be notified');
  });

  test.each(ways)('%s: the progress of a tenant comes to its end', async (name, watch) => {
    const step = failpoints.hold('create_role:before');
    const input = { name: `Watched by ${name}`, isolation: 'SCHEMA', wait: false };
    const { operation } = await createTenant(working, input);
    await step.reached;
    const operationId = operation!.id;
    const following = [working, other].map((gateway) => all(watch(gateway, { operationId })));
    step.release();
    for (const events of await Promise.all(following)) {
      expect(events.at(-1)).toMatchObject({ operationStatus: 'SUCCEEDED', percent: 100 });
    }
  });

  test('a tenant that cannot be made is undone', async () => {
    failpoints.fail('verify_connection:before');
    const input = { name: 'Undone', isolation: 'SCHEMA' };
    const { operation } = await createTenant(working, input);
    expectOrderly(await endedEvents(world, operation!.id));
  });

  test.each([
    ['SUCCEEDED', false],
    ['ROLLED_BACK', true],
  ])('a batch ends %s, and its progress with it', async (status, fails) => {
    if (fails) failpoints.fail('verify_connection:before', 1);
    const names = ['first', 'second', 'third'].map((name) => `${name} of ${status}`);
    const { createTenantsBatch } = await working.graphql<{
      createTenantsBatch: { batch: { id: string } };
    }>(
      `mutation ($tenants: [CreateTenantInput!]!) {
        createTenantsBatch(input: { tenants: $tenants, atomic: true, wait: false }) {
          batch { id } } }`,
      { tenants: names.map((name) => ({ name, isolation: 'SCHEMA' })) },
    );
    const { id } = createTenantsBatch.batch;
    const events = await all(overServerSentEvents(other, { batchId: id }));
    expect(events.at(-1)?.batch?.total).toBe(3);
    expect(
      await world.query('SELECT status FROM control_plane.batches WHERE id = $1', [id]),
    ).toEqual([{ status }]);
  });

  test('what waits for its time is cancelled, and a tenant is deleted', async () => {
    const { operation } = await schedule(working, { name: 'Some day', provisionAt: someDay() });
    const following = all(overServerSentEvents(other, { operationId: operation.id }));
    expect((await cancel(working, operation.id)).operation?.status).toBe('CANCELLED');
    expect((await following).at(-1)?.operationStatus).toBe('CANCELLED');
    const { tenant } = await makeTenant(working, { name: 'Deleted', isolation: 'SCHEMA' });
    const { deleteTenant } = await working.graphql<{ deleteTenant: object }>(
      `mutation ($id: ID!) { deleteTenant(input: { id: $id }) { tenant { status } userErrors { code } } }`,
      { id: tenant.id },
    );
    expect(deleteTenant).toEqual({ tenant: { status: 'DELETED' }, userErrors: [] });
  });
});
