import type { Knex } from 'knex';
import pino from 'pino';
import { expect, test } from 'vitest';
import { createEventSubscriptions } from '../../src/progress/event-subscriptions.ts';

test('a caller may have 1000 streams open on an instance; the next one ends or is another caller’s', async () => {
  // Nothing is asked of the registry before a stream is read.
  const subscriptions = createEventSubscriptions({
    control: Object.create(null) as Knex,
    connection: {},
    log: pino({ level: 'silent' }),
  });
  const open = (caller: string) =>
    subscriptions.open({
      of: { operationId: 'an operation' },
      afterSequence: 0,
      caller,
      signal: new AbortController().signal,
    });
  const streams = Array.from({ length: 1000 }, () => open('a'));
  expect(() => open('a')).toThrow(expect.objectContaining({ code: 'RATE_LIMITED' }));
  await open('b').return();
  await streams[0]?.return();
  await streams[0]?.return(); // counts once
  open('a');
  expect(() => open('a')).toThrow(expect.objectContaining({ code: 'RATE_LIMITED' }));
  await subscriptions.close();
  expect(() => open('a')).toThrow(expect.objectContaining({ code: 'UNAVAILABLE' }));
});
