import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { scriptFailpoints } from './failpoints.ts';
import { createTenant, makeTenant } from './tenants.ts';
import { endedEvents, expectNothingLeft, expectOrderly, tracesOf } from './traces.ts';

const failpoints = scriptFailpoints();
let world: World;
/** Its operations can be held; another one takes jobs as well. */
let holder: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  holder = await world.start({ failpoints });
});
afterEach(() => failpoints.clear());
afterAll(() => world.close());

/** As if its instance had not renewed the lease of an operation for too long. */
async function endLease(operationId: string): Promise<void> {
  await world.query('UPDATE control_plane_jobs.job SET start_after = now() WHERE id = $1', [
    operationId,
  ]);
}

async function jobOf(operationId: string): Promise<{ state: string; due: boolean }> {
  const [job] = await world.query<{ state: string; due: boolean }>(
    `SELECT state::text, start_after <= now() AS due FROM control_plane_jobs.job WHERE id = $1`,
    [operationId],
  );
  return job!;
}

async function auditOf(operationTenant: string): Promise<string[]> {
  const rows = await world.query<{ action: string }>(
    'SELECT action FROM control_plane.audit_log WHERE tenant_id = $1 ORDER BY id',
    [operationTenant],
  );
  return rows.map((row) => row.action);
}

test('a job is leased to the instance that accepted it, and done with the operation', async () => {
  const held = failpoints.hold('create_role:before');
  const { operation } = await createTenant(holder, { name: 'Leased', wait: false });
  await held.reached;
  expect(await jobOf(operation!.id)).toEqual({ state: 'created', due: false });
  held.release();
  await endedEvents(world, operation!.id);
  expect(await jobOf(operation!.id)).toMatchObject({ state: 'completed' });
});

test('an instance that meets the job of its own operation goes on, and keeps the job', async () => {
  const held = failpoints.hold('create_database:before');
  const creating = createTenant(holder, { name: 'Met itself' });
  await held.reached;
  const [row] = await world.query<{ id: string }>(
    `SELECT id FROM control_plane.operations WHERE finished_at IS NULL`,
  );
  const { id } = row!;
  await endLease(id);
  await expect.poll(async () => (await jobOf(id)).state, { timeout: 15_000 }).not.toBe('created');
  failpoints.clear();
  await makeTenant(holder, { name: 'Time passes' });
  expect((await jobOf(id)).state).toBe('active');
  held.release();
  expect(await creating).toMatchObject({ tenant: { status: 'ACTIVE' } });
  const [operation] = await world.query(
    'SELECT fence::int FROM control_plane.operations WHERE id = $1',
    [id],
  );
  expect(operation).toEqual({ fence: 1 });
  await expect.poll(async () => (await jobOf(id)).state).toBe('completed');
});

// The holder meets its own job first when nobody else asks for jobs more often: it is stalled here.
test.each(['create_role', 'create_database', 'verify_connection', 'activate'])(
  'an instance that stalled at %s cannot end an operation that was taken over',
  async (step) => {
    const other = await world.start();
    const held = failpoints.hold(`${step}:before`);
    const creating = createTenant(holder, { name: `Stalled at ${step}`, databaseNaming: 'SLUG' });
    await held.reached;
    const [row] = await world.query<{ id: string; tenantId: string }>(
      `SELECT id, tenant_id AS "tenantId" FROM control_plane.operations WHERE finished_at IS NULL`,
    );
    const { id, tenantId } = row!;
    await takeOver(id);
    const rows = await endedEvents(world, id);
    expectOrderly(rows);
    held.release();
    // The client of the stalled instance hears how it went.
    expect(await creating).toMatchObject({
      tenant: { id: tenantId, status: 'ACTIVE' },
      operation: { id, status: 'SUCCEEDED' },
      apiKey: expect.stringMatching(/^tk_/) as string,
    });
    expect(await auditOf(tenantId)).toEqual(['createTenant', 'activateTenant']);
    const traces = await tracesOf(world, id);
    expect(traces.places).toHaveLength(1);
    expect(traces.roles).toHaveLength(3);
    await other.close();
  },
);

/** Lets leases end until an instance other than the holder, which knows its own, has taken it. */
async function takeOver(id: string): Promise<void> {
  await expect
    .poll(
      async () => {
        await world.query(
          `UPDATE control_plane_jobs.job SET start_after = now(), state = 'created' WHERE id = $1
           AND state < 'completed'`,
          [id],
        );
        const [row] = await world.query<{ fence: number }>(
          'SELECT fence::int FROM control_plane.operations WHERE id = $1',
          [id],
        );
        return row?.fence;
      },
      { timeout: 20_000, interval: 300 },
    )
    .toBeGreaterThan(1);
}

test('an instance that stops hands its operations back at once', async () => {
  const stopping = await world.start({
    failpoints: { reach: (point) => (point === 'create_database:after' ? hang() : resolved()) },
    settings: { SHUTDOWN_GRACE_SECONDS: '1', TAKEOVER_SECONDS: '3600' },
  });
  const { operation } = await createTenant(stopping, { name: 'Handed back', wait: false });
  await expect
    .poll(() => tracesOf(world, operation!.id))
    .toMatchObject({ places: [expect.any(String) as string] });
  await stopping.close();
  // With a lease of an hour it is taken now, or never in this test.
  const rows = await endedEvents(world, operation!.id);
  expectOrderly(rows);
  expect(rows.at(-1)).toMatchObject({ operationStatus: 'SUCCEEDED' });
});

test('an operation that is taken over after its deadline is undone', async () => {
  const short = await world.start({
    failpoints: { reach: (point) => (point === 'verify_connection:before' ? hang() : resolved()) },
    settings: { SHUTDOWN_GRACE_SECONDS: '0' },
  });
  const input = { name: 'Too late', slug: 'too-late', wait: false };
  const { operation } = await createTenant(short, input);
  await expect
    .poll(() => tracesOf(world, operation!.id))
    .toMatchObject({ places: [expect.any(String) as string] });
  await world.query('UPDATE control_plane.operations SET deadline_at = now() WHERE id = $1', [
    operation!.id,
  ]);
  await short.close();
  const rows = await endedEvents(world, operation!.id);
  expectOrderly(rows);
  await expectNothingLeft(world, holder, operation!.id);
  const { operation: ended } = await holder.graphql<{ operation: { error: unknown } }>(
    'query ($id: ID!) { operation(id: $id) { error { code message } } }',
    { id: operation!.id },
  );
  expect(ended.error).toMatchObject({
    code: 'PROVISIONING_FAILED',
    message: expect.stringContaining("did not end before the operation's deadline") as string,
  });
  await makeTenant(holder, { ...input, wait: true });
});

const hang = (): Promise<never> => new Promise(() => {});
const resolved = (): Promise<void> => Promise.resolve();
