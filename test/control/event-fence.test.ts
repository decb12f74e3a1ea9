import { setTimeout as sleep } from 'node:timers/promises';
import type { Knex } from 'knex';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { appendEvents, listSteps, type StepEvent } from '../../src/control/events.ts';
import { holdUntoldOperations } from '../../src/control/loose-ends.ts';
import { takeOver } from '../../src/control/operations.ts';
import { createWorld, type World } from '../harness.ts';
import { makeOperation, type OperationRow } from '../progress/rows.ts';
import { openRegistry } from './rows.ts';

let world: World;
let control: Knex;
/** A session that holds the lock of the event writers. */
let writer: pg.Client;
let operation: OperationRow;

beforeAll(async () => {
  world = await createWorld();
  control = openRegistry(world);
});
afterAll(async () => {
  await control.destroy();
  await world.close();
});
beforeEach(async () => {
  operation = await makeOperation(world);
  writer = new pg.Client({ connectionString: world.controlUrl, application_name: 'test' });
  await writer.connect();
  await writer.query('BEGIN');
  await writer.query('SELECT pg_advisory_xact_lock(7311, 1)');
});
afterEach(() => writer.end());

function event(fence: number, message: string, more: Partial<StepEvent> = {}): StepEvent {
  return {
    operationId: operation.id,
    fence,
    tenantId: operation.tenantId,
    step: 'create_role',
    position: 2,
    status: 'STARTED',
    attempt: 1,
    operationStatus: 'RUNNING',
    percent: 25,
    message,
    at: new Date(),
    durationMs: null,
    ...more,
  };
}

async function messages(): Promise<string[]> {
  const rows = await world.query<{ message: string }>(
    `SELECT message FROM control_plane.operation_events WHERE operation_id = $1 ORDER BY sequence`,
    [operation.id],
  );
  return rows.map(({ message }) => message);
}

/** Resolves when so many sessions wait for the lock. */
async function waiting(count: number): Promise<void> {
  await expect
    .poll(
      () =>
        world.query(
          `SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND classid = 7311
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
        ),
      { timeout: 15_000, interval: 10 },
    )
    .toHaveLength(count);
}

/** Whether a promise has settled, once everything that was sent has had an answer. */
async function hasSettled(promise: Promise<unknown>): Promise<boolean> {
  return Promise.race([promise.then(() => true), sleep(0).then(() => false)]);
}

describe('an instance that lost its operation while it waited for its turn', () => {
  const stale = (message: string): StepEvent =>
    event(1, message, { status: 'SUCCEEDED', operationStatus: 'SUCCEEDED' });

  test('writes no event, and no state of a step', async () => {
    const writing = appendEvents(control, [stale('a'), stale('b')]);
    await waiting(1);
    await writer.query('UPDATE control_plane.operations SET fence = 2 WHERE id = $1', [
      operation.id,
    ]);
    await writer.query('COMMIT');
    await writing;
    expect(await messages()).toEqual([]);
    expect(await listSteps(control, [operation.id])).toEqual([]);
  });

  test('writes none behind the end that another one told in its place', async () => {
    await writer.query('ROLLBACK');
    await world.query(
      `UPDATE control_plane.operations SET status = 'SUCCEEDED',
         finished_at = now() - interval '1 minute' WHERE id = $1`,
      [operation.id],
    );
    let writing!: Promise<unknown>;
    await control.transaction(async (trx) => {
      const [untold] = await holdUntoldOperations(trx, [operation.id]);
      writing = appendEvents(control, [stale('of the slow instance')]);
      await waiting(1);
      const { fence } = untold!.operation;
      await appendEvents(trx, [{ ...stale('told in its place'), fence }]);
    });
    await writing;
    expect(await messages()).toEqual(['told in its place']);
  });
});

test('a takeover waits for events under way: none of an older fence is written after it', async () => {
  await writer.query(
    `INSERT INTO control_plane.operation_events
       (operation_id, tenant_id, step, status, operation_status, percent, message, at)
     VALUES ($1, $2, 'create_role', 'STARTED', 'RUNNING', 25, 'under way', now())`,
    [operation.id, operation.tenantId],
  );
  const taking = takeOver(control, operation.id);
  await waiting(1);
  expect(await hasSettled(taking)).toBe(false);
  await writer.query('COMMIT');
  expect(await taking).toMatchObject({ fence: 2 });
  expect(await messages()).toEqual(['under way']);
  await appendEvents(control, [event(1, 'stale'), event(2, 'new')]);
  expect(await messages()).toEqual(['under way', 'new']);
});

test('events that are sent twice, as after a lost answer, are written once', async () => {
  const events = [event(1, 'a'), event(1, 'b', { status: 'SUCCEEDED' })];
  const first = appendEvents(control, events);
  const again = appendEvents(control, [...events, event(1, 'c', { step: 'create_schema' })]);
  await waiting(2);
  await writer.query('COMMIT');
  await Promise.all([first, again]);
  expect((await messages()).toSorted()).toEqual(['a', 'b', 'c']);
  await appendEvents(control, events);
  expect(await messages()).toHaveLength(3);
  const states = { create_role: 'SUCCEEDED', create_schema: 'STARTED' };
  const steps = await listSteps(control, [operation.id]);
  expect(Object.fromEntries(steps.map(({ name, status }) => [name, status]))).toEqual(states);
});
