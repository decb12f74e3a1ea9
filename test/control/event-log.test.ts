import { randomUUID } from 'node:crypto';
import type { Knex } from 'knex';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openControl } from '../../src/control/database.ts';
import { appendEvents, listSteps, type StepEvent } from '../../src/control/events.ts';
import { isWholeStory, readEvents } from '../../src/control/read-events.ts';
import { connectionOptions } from '../../src/postgres/connection.ts';
import { withDatabase } from '../control-template.ts';
import { createWorld, type World } from '../harness.ts';
import { makeOperation, makeOperations, type OperationRow } from '../progress/rows.ts';

let world: World;
let control: Knex;

beforeAll(async () => {
  world = await createWorld();
  const connection = connectionOptions(world.controlUrl, {
    applicationName: 'test',
    statementTimeoutMs: 30_000,
  });
  control = openControl({ connection, poolMax: 10, poolTimeoutMs: 30_000 });
});
afterAll(async () => {
  await control.destroy();
  await world.close();
});

function event(operation: OperationRow, message: string): StepEvent {
  return {
    operationId: operation.id,
    fence: 1,
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
  };
}

async function messagesOf(operationId: string, after = 0): Promise<string[]> {
  const events = await readEvents(control, { operationId }, after, 1000);
  return events.map(({ message }) => message);
}

/** A transaction on a connection of the test's own. */
async function begin(url = world.controlUrl): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: 'test' });
  await client.connect();
  await client.query('BEGIN');
  return client;
}

const insertByHand = `INSERT INTO control_plane.operation_events
  (operation_id, tenant_id, step, status, operation_status, percent, message, at)
  VALUES ($1, $2, 'create_role', 'STARTED', 'RUNNING', 25, $3, now())`;

describe('the event log', () => {
  test('keeps the order in which events were recorded, and the state of their steps', async () => {
    const operation = await makeOperation(world);
    const messages = Array.from({ length: 300 }, (_, index) => `event ${index}`);
    const events = messages.map((message) => event(operation, message));
    await appendEvents(control, [...events, { ...event(operation, 'done'), status: 'SUCCEEDED' }]);
    expect(await messagesOf(operation.id)).toEqual([...messages, 'done']);
    expect(await listSteps(control, [operation.id])).toMatchObject([
      { name: 'create_role', status: 'SUCCEEDED', attempts: 1 },
    ]);
  });

  test('is read in pages', async () => {
    const operation = await makeOperation(world);
    await appendEvents(
      control,
      ['a', 'b', 'c'].map((message) => event(operation, message)),
    );
    const [first] = await readEvents(control, { operationId: operation.id }, 0, 1);
    expect(first).toMatchObject({ message: 'a', operationId: operation.id, batchId: null });
    expect(await messagesOf(operation.id, first!.sequence)).toEqual(['b', 'c']);
  });

  test('takes no event of who has lost the operation', async () => {
    const operation = await makeOperation(world);
    await appendEvents(control, [event(operation, 'before')]);
    await world.query(`UPDATE control_plane.operations SET fence = 2 WHERE id = $1`, [
      operation.id,
    ]);
    const stale: StepEvent = { ...event(operation, 'stale'), status: 'FAILED' };
    await appendEvents(control, [stale, { ...event(operation, 'new holder'), fence: 2 }]);
    await appendEvents(control, [stale]);
    expect(await messagesOf(operation.id)).toEqual(['before', 'new holder']);
    expect(await listSteps(control, [operation.id])).toMatchObject([{ status: 'STARTED' }]);
  });

  test('does without operations that are gone', async () => {
    const operation = await makeOperation(world);
    const gone = { id: randomUUID(), tenantId: operation.tenantId };
    await appendEvents(control, [event(gone, 'gone'), event(operation, 'there')]);
    expect(await messagesOf(operation.id)).toEqual(['there']);
  });

  test('hides nothing from a reader, however many write at once', async () => {
    const operation = await makeOperation(world);
    const writers = Array.from({ length: 8 }, async (_, writer) => {
      for (let round = 0; round < 50; round += 1) {
        const name = `${writer} ${round}`;
        await appendEvents(control, [event(operation, name), event(operation, `${name} too`)]);
      }
    });
    const unfinished = new Set(writers);
    for (const writer of writers) void writer.finally(() => unfinished.delete(writer));
    const seen: number[] = [];
    do {
      const after = seen.at(-1) ?? 0;
      const isLast = unfinished.size === 0; // asked before the look: what comes in between is seen
      const events = await readEvents(control, { operationId: operation.id }, after, 50);
      seen.push(...events.map(({ sequence }) => sequence));
      if (events.length === 0 && isLast) break;
    } while (seen.length < 800);
    await Promise.all(writers);
    const rows = await world.query<{ sequence: string }>(
      `SELECT sequence FROM control_plane.operation_events WHERE operation_id = $1 ORDER BY sequence`,
      [operation.id],
    );
    expect(seen).toEqual(rows.map(({ sequence }) => Number(sequence)));
    expect(seen).toHaveLength(800);
  });
});

describe('reading goes no further than the oldest open transaction', () => {
  test.each(['COMMIT', 'ROLLBACK'])('that has written events, until its %s', async (end) => {
    const operation = await makeOperation(world);
    const late = await begin();
    await late.query(insertByHand, [operation.id, operation.tenantId, 'late']);
    await appendEvents(control, [event(operation, 'early')]);
    expect(await messagesOf(operation.id)).toEqual([]);
    await late.query(end);
    expect(await messagesOf(operation.id)).toEqual(
      end === 'COMMIT' ? ['late', 'early'] : ['early'],
    );
    await late.end();
  });

  test('but past one that has written something else, here or in another database', async () => {
    const operation = await makeOperation(world);
    const tenant = await begin(withDatabase(world.controlUrl, 'postgres'));
    const neighbour = await begin();
    // Each has a transaction id, and stays open.
    await tenant.query('SELECT pg_current_xact_id()');
    await neighbour.query(`UPDATE control_plane.tenants SET name = 'b' WHERE id = $1`, [
      operation.tenantId,
    ]);
    await neighbour.query('SELECT count(*) FROM control_plane.operation_events');
    await appendEvents(control, [event(operation, 'told at once')]);
    expect(await messagesOf(operation.id)).toEqual(['told at once']);
    await Promise.all([tenant.end(), neighbour.end()]);
  });
});

describe('a story is whole', () => {
  const ended = (id: string, age: string): Promise<unknown> =>
    world.query(
      `UPDATE control_plane.operations
       SET status = 'SUCCEEDED', finished_at = now() - $2::interval WHERE id = $1`,
      [id, age],
    );

  test('with its last event', async () => {
    const operation = await makeOperation(world);
    const selector = { operationId: operation.id };
    await appendEvents(control, [{ ...event(operation, 'last'), operationStatus: 'SUCCEEDED' }]);
    const [last] = await readEvents(control, selector, 0, 10);
    expect(await isWholeStory(control, selector, last!.sequence)).toBe(false); // still open
    await ended(operation.id, '0 s');
    expect(await isWholeStory(control, selector, last!.sequence)).toBe(true);
    expect(await isWholeStory(control, selector, last!.sequence - 1)).toBe(false);
  });

  test('without one only after a while, and not while there is more to read', async () => {
    const operation = await makeOperation(world);
    const selector = { operationId: operation.id };
    await appendEvents(control, [event(operation, 'some event')]);
    const [some] = await readEvents(control, selector, 0, 10);
    await ended(operation.id, '0 s');
    expect(await isWholeStory(control, selector, some!.sequence)).toBe(false);
    await ended(operation.id, '20 s');
    expect(await isWholeStory(control, selector, some!.sequence)).toBe(true);
    expect(await isWholeStory(control, selector, 0)).toBe(false);
  });

  test('when the operation is gone', async () => {
    expect(await isWholeStory(control, { operationId: randomUUID() }, 0)).toBe(true);
  });
});

test('the caller learns of which operations and batches there is something to read', async () => {
  const [single, item, lost] = await makeOperations(world, 3);
  const [batch] = await world.query<{ id: string }>(
    `WITH batch AS (
       INSERT INTO control_plane.batches (id, partner, status, atomic, total, deadline_at)
       VALUES (gen_random_uuid(), 'p', 'RUNNING', false, 1, now()) RETURNING id)
     UPDATE control_plane.operations SET batch_id = batch.id, batch_index = 0 FROM batch
     WHERE operations.id = $1 RETURNING batch.id`,
    [item!.id],
  );
  const news = await appendEvents(control, [
    event(single!, 'a'),
    event(single!, 'b'),
    event(item!, 'a'),
    { ...event(lost!, 'stale'), fence: 7 },
  ]);
  expect(news.toSorted()).toEqual([single!.id, item!.id, batch!.id].toSorted());
});
