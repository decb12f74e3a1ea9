import type { Knex } from 'knex';
import { createClient } from 'graphql-ws';
import pino from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { openControl } from '../../src/control/database.ts';
import { connectionOptions } from '../../src/postgres/connection.ts';
import type { ProgressEvent } from '../../src/control/read-events.ts';
import {
  createEventSubscriptions,
  type EventSubscriptions,
} from '../../src/progress/event-subscriptions.ts';
import { createWorld, type World } from '../harness.ts';
import { makeTenant } from '../provisioning/tenants.ts';
import { makeOperation, writeEvents } from './rows.ts';
import { socketUrl } from './watch.ts';

let world: World;
let control: Knex;
let subscriptions: EventSubscriptions;
/** Names of the statements that were sent. */
const sent: string[] = [];

beforeAll(async () => {
  world = await createWorld();
  const connection = connectionOptions(world.controlUrl, {
    applicationName: 'test',
    statementTimeoutMs: 30_000,
  });
  control = openControl({ connection, poolMax: 2, poolTimeoutMs: 10_000 });
  control.on('query', ({ options }: { options?: { name?: string } }) => {
    sent.push(options?.name ?? '');
  });
  subscriptions = createEventSubscriptions({
    control,
    connection,
    log: pino({ level: 'silent' }),
  });
});
afterAll(async () => {
  await subscriptions.close();
  await control.destroy();
  await world.close();
});

function open(operationId: string, afterSequence = 0) {
  const { signal } = new AbortController();
  return subscriptions.open({ of: { operationId }, afterSequence, caller: 'a', signal });
}

/** So many events of a stream, by `nextSome`. */
async function some(stream: ReturnType<typeof open>, count: number): Promise<ProgressEvent[]> {
  const events: ProgressEvent[] = [];
  while (events.length < count) {
    const page = await stream.nextSome();
    if (page.length === 0) throw new Error('the stream ended');
    events.push(...page);
  }
  return events;
}

describe('many streams of one operation', () => {
  test('are handed the same events, which are read once', async () => {
    const operation = await makeOperation(world);
    await writeEvents(world, operation, { count: 250, messageLength: 10 });
    sent.length = 0;
    const streams = Array.from({ length: 300 }, () => open(operation.id));
    const all = await Promise.all(streams.map((stream) => some(stream, 250)));
    const [first = []] = all;
    expect(first).toHaveLength(250);
    const sequences = first.map(({ sequence }) => sequence);
    expect(sequences).toEqual(sequences.toSorted((a, b) => a - b));
    for (const events of all) {
      expect(events).toHaveLength(250);
      expect(events.every((event, index) => event === first[index])).toBe(true);
    }
    const reads = sent.filter((name) => name === 'read_events_by_operation_id');
    expect(reads.length).toBeLessThan(20);
    await Promise.all(streams.map((stream) => stream.return()));
  });

  test('begin wherever they like: further back, in the middle, beyond the end', async () => {
    const operation = await makeOperation(world);
    await writeEvents(world, operation, { count: 150, messageLength: 10 });
    const late = open(operation.id, 2_000_000_000);
    const beyond = late.nextSome();
    const whole = await some(open(operation.id), 150);
    const middle = whole[99]!.sequence;
    expect(await some(open(operation.id, middle), 50)).toEqual(whole.slice(100));
    expect(await some(open(operation.id), 150)).toEqual(whole);
    await late.return();
    expect(await beyond).toEqual([]);
  });
});

describe('Subscription.tenantProvisioningProgress of the same operation by several', () => {
  test('each gets what its document and variables ask for', async () => {
    const gateway = await world.start();
    const { operation } = await makeTenant(gateway, { name: 'Asked differently' });
    const client = createClient({ url: socketUrl(gateway), webSocketImpl: WebSocket });
    const field = `tenantProvisioningProgress(operationId: "${operation.id}")`;
    const asked = [
      [`subscription { ${field} { step } }`, {}, ['step']],
      [`subscription { ${field} { step } }`, {}, ['step']],
      [`subscription { p: ${field} { s: step status } }`, {}, ['s', 'status']],
      [
        `subscription Two { ${field} { ...F } } fragment F on ProvisioningProgress { percent }`,
        {},
        ['percent'],
      ],
      ...[true, false].map(
        (on) =>
          [
            `subscription ($on: Boolean!) { ${field} { sequence step @include(if: $on) } }`,
            { on },
            on ? ['sequence', 'step'] : ['sequence'],
          ] as const,
      ),
      ...[true, false].map(
        (on) =>
          [
            `subscription ($on: Boolean!) { ${field} { ...G } }
             fragment G on ProvisioningProgress { sequence step @skip(if: $on) }`,
            { on },
            on ? ['sequence'] : ['sequence', 'step'],
          ] as const,
      ),
    ] as const;
    const told = await Promise.all(
      asked.map(async ([query, variables]) => {
        const keys: string[][] = [];
        for await (const { data } of client.iterate({ query, variables })) {
          keys.push(Object.values(data ?? {}).flatMap((event) => Object.keys(event as object)));
        }
        return keys;
      }),
    );
    for (const [index, [query, , fields]] of asked.entries()) {
      expect(told[index]!.length, query).toBeGreaterThan(10);
      for (const keys of told[index]!) expect(keys, query).toEqual(fields);
    }
    await client.dispose();
    await gateway.close();
  });
});
