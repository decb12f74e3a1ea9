import pg from 'pg';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { scriptFailpoints, type ScriptedFailpoints } from './failpoints.ts';
import { cancel, schedule, someDay } from './scheduled.ts';
import { createTenant, makeTenant } from './tenants.ts';

// The recorded end of an operation is that of its commit: a transaction may begin seconds before.

let world: World;
let failpoints: ScriptedFailpoints;
let gateway: TestGateway;
/** Holds locks that the gateway waits for. */
let session: pg.Client;

beforeAll(async () => {
  world = await createWorld();
  failpoints = scriptFailpoints();
  gateway = await world.start({ failpoints });
  session = new pg.Client({ connectionString: world.controlUrl, application_name: 'test' });
  await session.connect();
});
afterEach(() => {
  failpoints.clear();
});
afterAll(async () => {
  await session.end();
  await world.close();
});

/** Begins a transaction that holds a row of a table. */
async function holdRow(table: 'operations' | 'batches', id: string): Promise<void> {
  await session.query('BEGIN');
  await session.query(`SELECT FROM control_plane.${table} WHERE id = $1 FOR UPDATE`, [id]);
}

/** Lets the row go once the gateway waits for it; returns the server's time right before. */
async function letGoAwaited(): Promise<Date> {
  await expect
    .poll(
      () =>
        world.query(
          `SELECT FROM pg_stat_activity WHERE application_name = 'tenantry control plane'
             AND datname = current_database() AND wait_event_type = 'Lock'
             AND wait_event = 'transactionid'`,
        ),
      { timeout: 15_000, interval: 10 },
    )
    .toHaveLength(1);
  const now = await serverTime();
  await session.query('COMMIT');
  return now;
}

async function serverTime(): Promise<Date> {
  const [row] = await world.query<{ now: Date }>(
    `SELECT date_trunc('milliseconds', clock_timestamp()) AS now`,
  );
  return row!.now;
}

async function column(table: string, name: string, id: string): Promise<Date | null> {
  const [row] = await world.query<{ value: Date | null }>(
    `SELECT ${name} AS value FROM control_plane.${table} WHERE id = $1`,
    [id],
  );
  return row?.value ?? null;
}

test('Mutation.createTenant: of a transaction that was begun ahead', async () => {
  const step = failpoints.hold('encrypt_credentials:before');
  const making = makeTenant(gateway, { name: 'Ahead', isolation: 'SCHEMA' });
  await step.reached;
  await expect
    .poll(() =>
      world.query(
        `SELECT FROM pg_stat_activity WHERE state = 'idle in transaction'
           AND application_name = 'tenantry control plane' AND datname = current_database()`,
      ),
    )
    .toHaveLength(1);
  const before = await serverTime();
  step.release();
  const { operation, tenant } = await making;
  expect(await column('operations', 'finished_at', operation.id)).toSatisfy(
    (end: Date) => end >= before,
  );
  expect(await column('tenants', 'activated_at', tenant.id)).toSatisfy(
    (end: Date) => end >= before,
  );
});

test('the answer has the times as they are stored', async () => {
  const { createTenant: made } = await gateway.graphql<{
    createTenant: {
      tenant: { id: string; activatedAt: string };
      operation: { id: string; finishedAt: string };
    };
  }>(
    `mutation { createTenant(input: { name: "As stored", isolation: SCHEMA }) {
      tenant { id activatedAt } operation { id finishedAt } } }`,
  );
  const { operation, tenant } = made;
  expect(await column('operations', 'finished_at', operation.id)).toEqual(
    new Date(operation.finishedAt),
  );
  expect(await column('tenants', 'activated_at', tenant.id)).toEqual(new Date(tenant.activatedAt));
});

test('Mutation.deleteTenant: whose transaction had to wait', async () => {
  const { tenant } = await makeTenant(gateway, { name: 'Deleted', isolation: 'SCHEMA' });
  const step = failpoints.hold('mark_deleted:before');
  const deleting = gateway.graphql<{ deleteTenant: { operation: { id: string } } }>(
    'mutation ($id: ID!) { deleteTenant(input: { id: $id }) { operation { id } } }',
    { id: tenant.id },
  );
  await step.reached;
  const [open] = await world.query<{ id: string }>(
    'SELECT id FROM control_plane.operations WHERE tenant_id = $1 AND finished_at IS NULL',
    [tenant.id],
  );
  await holdRow('operations', open!.id);
  step.release();
  const before = await letGoAwaited();
  const { operation } = (await deleting).deleteTenant;
  for (const end of [
    await column('operations', 'finished_at', operation.id),
    await column('tenants', 'deleted_at', tenant.id),
  ]) {
    expect(end).toSatisfy((end: Date) => end >= before);
  }
});

test('Mutation.cancelOperation: whose transaction had to wait', async () => {
  const { operation } = await schedule(gateway, { name: 'Some day', provisionAt: someDay() });
  await holdRow('operations', operation.id);
  const cancelling = cancel(gateway, operation.id);
  const before = await letGoAwaited();
  expect((await cancelling).operation?.status).toBe('CANCELLED');
  expect(await column('operations', 'finished_at', operation.id)).toSatisfy(
    (end: Date) => end >= before,
  );
});

test('a batch whose end had to wait', async () => {
  const step = failpoints.hold('verify_connection:before');
  const making = gateway.graphql(
    `mutation { createTenantsBatch(input: { tenants: [{ name: "Item", isolation: SCHEMA }] }) {
      batch { id } } }`,
  );
  await step.reached;
  const [batch] = await world.query<{ id: string }>('SELECT id FROM control_plane.batches');
  await holdRow('batches', batch!.id);
  step.release();
  const before = await letGoAwaited();
  await making;
  expect(await column('batches', 'finished_at', batch!.id)).toSatisfy((end: Date) => end >= before);
});

test('Mutation.createTenant that is undone: of the undo’s last transaction', async () => {
  failpoints.fail('verify_connection:before');
  const step = failpoints.hold('reserve:compensate');
  const making = createTenant(gateway, { name: 'Undone', isolation: 'SCHEMA' });
  await step.reached;
  const [open] = await world.query<{ id: string }>(
    `SELECT id FROM control_plane.operations WHERE status = 'COMPENSATING'`,
  );
  await holdRow('operations', open!.id);
  step.release();
  const before = await letGoAwaited();
  await making;
  expect(await column('operations', 'finished_at', open!.id)).toSatisfy(
    (end: Date) => end >= before,
  );
});
