import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { all, overWebSocket } from '../progress/watch.ts';
import { bearer, startWithTokens } from '../tokens.ts';
import { createBatch, endedBatch, findBatch, schemas } from './batches.ts';
import { scriptFailpoints } from './failpoints.ts';
import { isolations } from './isolations.ts';
import { becomes, cancel, letItBeTime, schedule, someDay, stateOf } from './scheduled.ts';
import { makeTenant } from './tenants.ts';
import { tracesOf } from './traces.ts';

const failpoints = scriptFailpoints();
let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({ failpoints, settings: { BATCH_CONCURRENCY: '1' } });
});
afterEach(() => failpoints.clear());
afterAll(() => world.close());

const gone = {
  places: [],
  roles: [],
  status: 'FAILED',
  databaseStatus: 'DROPPED',
  sealed: null,
  secrets: null,
  operationStatus: 'CANCELLED',
  apiKeys: 0,
  idempotencyRecords: 0,
  openJobs: 0,
};

describe.for(isolations)('Mutation.cancelOperation, $isolation', ({ isolation }) => {
  test('of a SCHEDULED one frees all that was kept for it', async () => {
    const kind = isolation.toLowerCase();
    const input = {
      name: `Cancelled ${kind}`,
      slug: `cancelled-${kind}`,
      domain: `cancelled-${kind}.example.com`,
      uniqueName: true,
      isolation,
      idempotencyKey: `cancelled ${kind}`,
    };
    const { operation, tenant } = await schedule(gateway, { ...input, provisionAt: someDay() });
    const told = all(overWebSocket(gateway, { operationId: operation.id }));
    expect(await cancel(gateway, operation.id)).toEqual({
      operation: { id: operation.id, status: 'CANCELLED' },
      userErrors: [],
    });
    const events = await told;
    expect(events).toMatchObject([{ operationStatus: 'CANCELLED', percent: 0 }]);
    expect(await tracesOf(world, operation.id)).toMatchObject(gone);
    expect((await stateOf(gateway, tenant.id)).status).toBe('FAILED');
    const audit = await world.query(
      `SELECT action, from_status AS "from", to_status AS "to" FROM control_plane.audit_log
       WHERE tenant_id = $1 ORDER BY id`,
      [tenant.id],
    );
    expect(audit).toEqual([
      { action: 'createTenant', from: null, to: 'SCHEDULED' },
      { action: 'cancelOperation', from: 'SCHEDULED', to: 'FAILED' },
    ]);
    // The same again, key and all: names are free, and the key starts anew.
    const made = await makeTenant(gateway, input);
    expect(made.tenant.id).not.toBe(tenant.id);
    await letItBeTime(world, tenant.id);
    expect(await cancel(gateway, operation.id)).toMatchObject({
      operation: { status: 'CANCELLED' },
      userErrors: [{ code: 'INVALID_STATE', field: ['input', 'id'] }],
    });
    expect(await cancel(gateway, made.operation.id)).toMatchObject({
      operation: { status: 'SUCCEEDED' },
      userErrors: [
        { code: 'INVALID_STATE', message: 'An operation that is SUCCEEDED cannot be cancelled' },
      ],
    });
  });
});

describe('Mutation.cancelOperation', () => {
  test('of one under way is refused, and it goes on', async () => {
    const held = failpoints.hold('verify_connection:before');
    const { operation, tenant } = await schedule(gateway, {
      name: 'Under way',
      isolation: 'SCHEMA',
      wait: false,
    });
    await held.reached;
    expect(await cancel(gateway, operation.id)).toMatchObject({
      operation: { status: 'RUNNING' },
      userErrors: [{ code: 'INVALID_STATE' }],
    });
    held.release();
    await becomes(gateway, tenant.id, 'ACTIVE');
  });

  test.for(['nobody', '', randomUUID()])('of %o: NOT_FOUND', async (id) => {
    expect(await cancel(gateway, id)).toMatchObject({
      operation: null,
      userErrors: [{ code: 'NOT_FOUND', field: ['input', 'id'] }],
    });
  });

  test('of another partner’s: NOT_FOUND, and it stays', async () => {
    const partners = await startWithTokens(world);
    const { operation, tenant } = await schedule(gateway, {
      name: 'Foreign',
      isolation: 'SCHEMA',
      partner: 'cancel-a',
      provisionAt: someDay(),
    });
    const [own, other] = await Promise.all(
      ['cancel-a', 'cancel-b'].map((partner) => bearer({ roles: ['partner-admin'], partner })),
    );
    expect(await cancel(partners, operation.id, other)).toMatchObject({
      operation: null,
      userErrors: [{ code: 'NOT_FOUND' }],
    });
    expect((await stateOf(gateway, tenant.id)).status).toBe('SCHEDULED');
    expect(await cancel(partners, operation.id, own)).toMatchObject({
      operation: { status: 'CANCELLED' },
      userErrors: [],
    });
    await partners.close();
  });

  test('of one whose time comes meanwhile: it is cancelled or made, and never both', async () => {
    for (let round = 0; round < 6; round += 1) {
      const { operation, tenant } = await schedule(gateway, {
        name: `Race ${round}`,
        isolation: 'SCHEMA',
        provisionAt: someDay(),
      });
      const begun = letItBeTime(world, tenant.id);
      if (round % 2 === 0) await begun;
      const [{ userErrors }] = await Promise.all([cancel(gateway, operation.id), begun]);
      await becomes(gateway, tenant.id, userErrors.length === 0 ? 'FAILED' : 'ACTIVE');
    }
  });

  test('of an item that waits for its turn leaves the others alone', async () => {
    const held = failpoints.hold('verify_connection:before');
    const { batch } = await createBatch(gateway, { tenants: schemas('queue', 3), wait: false });
    await held.reached;
    const last = batch!.results[2]!;
    expect(await cancel(gateway, last.operation!.id)).toEqual({
      operation: { id: last.operation!.id, status: 'CANCELLED' },
      userErrors: [],
    });
    expect(await tracesOf(world, last.operation!.id)).toMatchObject(gone);
    held.release();
    failpoints.clear();
    const { results, status } = await endedBatch(gateway, batch!.id);
    expect(status).toBe('PARTIALLY_FAILED');
    expect(results.map(({ success }) => success)).toEqual([true, true, false]);
    expect(results[2]!.userErrors).toMatchObject([{ code: 'PROVISIONING_FAILED' }]);
    expect(results[2]!.userErrors[0]!.message).toMatch(/^Cancelled on request/);
  });
});

describe('Mutation.createTenantsBatch with provisionAt', () => {
  test('answers at once, begins at its time, and replays show the keys', async () => {
    const input = {
      tenants: schemas('someday', 3),
      provisionAt: someDay(),
      idempotencyKey: 'someday',
    };
    const { batch } = await createBatch(gateway, input);
    expect(batch).toMatchObject({ status: 'RUNNING', finishedAt: null });
    const ids = batch!.results.map(({ tenant }) => tenant!.id);
    for (const { apiKey, operation, success, tenant } of batch!.results) {
      expect({ apiKey, success }).toEqual({ apiKey: null, success: false });
      expect(operation!.status).toBe('SCHEDULED');
      expect(tenant!.status).toBe('SCHEDULED');
    }
    expect((await createBatch(gateway, input)).batch).toMatchObject({
      id: batch!.id,
      status: 'RUNNING',
    });
    const told = all(overWebSocket(gateway, { batchId: batch!.id }));
    await letItBeTime(world, ...ids);
    expect(await endedBatch(gateway, batch!.id)).toMatchObject({
      status: 'SUCCEEDED',
      summary: { successful: 3, failed: 0 },
    });
    expect((await told).at(-1)).toMatchObject({ batch: { percent: 100, succeeded: 3 } });
    const again = await createBatch(gateway, input);
    for (const { apiKey } of again.batch!.results) expect(apiKey).toMatch(/^tk_/);
  });

  test('a tenant may have a time of its own', async () => {
    const [now, later] = schemas('mixed', 2);
    const { batch } = await createBatch(gateway, {
      tenants: [now, { ...later, provisionAt: someDay() }],
    });
    await becomes(gateway, batch!.results[0]!.tenant!.id, 'ACTIVE');
    const { id } = batch!.results[1]!.tenant!;
    expect((await stateOf(gateway, id)).status).toBe('SCHEDULED');
    expect((await findBatch(gateway, batch!.id))!.status).toBe('RUNNING');
    await letItBeTime(world, id);
    expect((await endedBatch(gateway, batch!.id)).status).toBe('SUCCEEDED');
  });

  test('but not in an atomic batch', async () => {
    const [one, two] = schemas('atomic-time', 2);
    const { batch, userErrors } = await createBatch(gateway, {
      tenants: [one, { ...two, provisionAt: someDay() }],
      atomic: true,
    });
    expect(batch).toBeNull();
    expect(userErrors).toMatchObject([
      { code: 'INVALID', field: ['input', 'tenants', '1', 'provisionAt'] },
    ]);
  });

  test('a time that is none refuses the whole batch', async () => {
    const provisionAt = '2020-01-01T00:00:00Z';
    const { batch, userErrors } = await createBatch(gateway, {
      tenants: schemas('past', 2),
      provisionAt,
    });
    expect(batch).toBeNull();
    expect(userErrors).toMatchObject([{ code: 'INVALID', field: ['input', 'provisionAt'] }]);
  });

  test('to cancel one of an atomic batch cancels all of it', async () => {
    const { batch } = await createBatch(gateway, {
      tenants: schemas('atomic-later', 3),
      atomic: true,
      provisionAt: someDay(),
    });
    const told = all(overWebSocket(gateway, { batchId: batch!.id }));
    await cancel(gateway, batch!.results[1]!.operation!.id);
    const ended = await endedBatch(gateway, batch!.id);
    expect(ended.status).toBe('ROLLED_BACK');
    expect(ended.results.map(({ rolledBack }) => rolledBack)).toEqual([true, false, true]);
    for (const { operation } of ended.results) {
      expect(await tracesOf(world, operation!.id)).toMatchObject(gone);
    }
    expect((await told).map(({ operationStatus }) => operationStatus)).toEqual(
      Array(3).fill('CANCELLED'),
    );
  });

  test('to cancel all of another one cancels it', async () => {
    const { batch } = await createBatch(gateway, {
      tenants: schemas('all-later', 2),
      provisionAt: someDay(),
    });
    for (const { operation } of batch!.results) await cancel(gateway, operation!.id);
    expect((await endedBatch(gateway, batch!.id)).status).toBe('CANCELLED');
  });
});
