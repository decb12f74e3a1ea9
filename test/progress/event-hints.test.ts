import { randomUUID } from 'node:crypto';
import type { Knex } from 'knex';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventChannel } from '../../src/control/event-hints.ts';
import { createEventHints, type EventHints } from '../../src/progress/event-hints.ts';
import { openRegistry } from '../control/rows.ts';
import { createWorld, type World } from '../harness.ts';

let world: World;
let control: Knex;
let listener: pg.Client;
const payloads: string[] = [];

beforeAll(async () => {
  world = await createWorld();
  control = openRegistry(world);
  listener = new pg.Client({ connectionString: world.controlUrl, application_name: 'test' });
  listener.on('notification', ({ payload = '' }) => payloads.push(payload));
  await listener.connect();
  await listener.query(`LISTEN ${eventChannel}`);
});
afterAll(async () => {
  await listener.end();
  await control.destroy();
  await world.close();
});

/** The payloads that listeners get of what `work` sends. */
async function sent(work: (hints: EventHints) => unknown): Promise<string[]> {
  const errors: unknown[] = [];
  const hints = createEventHints({ control, onError: (error) => errors.push(error) });
  payloads.length = 0;
  work(hints);
  await hints.close();
  await listener.query('SELECT 1'); // what was notified came before this answer
  expect(errors).toEqual([]);
  return [...payloads];
}

const ids = (count: number): string[] => Array.from({ length: count }, () => randomUUID());

test('hints that come while one is under way are sent together, each id once', async () => {
  const [first, second, third] = ids(3) as [string, string, string];
  const told = await sent((hints) => {
    hints.send([first]);
    hints.send([second, third]);
    hints.send([]);
    hints.send([third]);
  });
  expect(told).toEqual([first, `${second} ${third}`]);
});

test('so many as fit into a notification by their ids, more as "any"', async () => {
  const few = ids(200);
  expect(await sent((hints) => hints.send(few))).toEqual([few.join(' ')]);
  expect(await sent((hints) => hints.send(ids(201)))).toEqual(['']);
  const many = await sent((hints) => {
    hints.send(ids(1));
    for (let round = 0; round < 100; round += 1) hints.send(ids(100));
  });
  expect(many).toEqual([expect.stringMatching(/^[0-9a-f-]{36}$/), '']);
});

describe('a hint that fails', () => {
  test('is said once in a row, and keeps none that follow from being sent', async () => {
    const errors: unknown[] = [];
    const broken = openRegistry(world);
    const hints = createEventHints({ control: broken, onError: (error) => errors.push(error) });
    await world.query('ALTER FUNCTION pg_catalog.pg_notify(text, text) RENAME TO pg_notify_gone');
    hints.send(ids(1));
    hints.send(ids(1));
    await hints.close();
    hints.send(ids(1));
    await hints.close();
    expect(errors).toEqual([expect.objectContaining({ code: '42883' })]);
    await world.query('ALTER FUNCTION pg_catalog.pg_notify_gone(text, text) RENAME TO pg_notify');
    payloads.length = 0;
    const [id] = ids(1) as [string];
    hints.send([id]);
    await hints.close();
    await listener.query('SELECT 1');
    expect(payloads).toEqual([id]);
    await broken.destroy();
  });
});
