import { getEventListeners } from 'node:events';
import type { Knex } from 'knex';
import pino from 'pino';
import { describe, expect, test } from 'vitest';
import { isLastEvent, type ProgressEvent } from '../../src/control/read-events.ts';
import { createEventStream } from '../../src/progress/event-stream.ts';
import { createEventSubscriptions } from '../../src/progress/event-subscriptions.ts';

function event(sequence: number, operationStatus: ProgressEvent['operationStatus'] = 'RUNNING') {
  return { sequence, operationStatus } as ProgressEvent;
}

/** A stream, its sink, and how often its supply was told what. */
function open(afterSequence = 0) {
  const gone = new AbortController();
  const told = { wanted: 0, ended: 0 };
  const supply = {
    wanted: () => (told.wanted += 1),
    ended: () => (told.ended += 1),
  };
  const made = createEventStream(afterSequence, gone.signal, supply, isLastEvent);
  return { ...made, gone, told };
}

const done = { done: true, value: undefined };
const told = (sequence: number) => ({ done: false, value: { sequence } });

describe('an event stream', () => {
  test('asks when it has nothing left, and only then', async () => {
    const { sink, stream, told: counts } = open();
    expect(counts.wanted).toBe(0);
    const first = stream.next();
    expect(counts.wanted).toBe(1);
    expect(sink.waiting).toBe(true);
    sink.fill([event(1), event(2)]);
    expect(await first).toMatchObject(told(1));
    expect(sink).toMatchObject({ waiting: false, cursor: 2 });
    expect(await stream.next()).toMatchObject(told(2));
    expect(counts.wanted).toBe(1);
  });

  test('answers several that ask at once, in order', async () => {
    const { sink, stream } = open();
    const asked = [stream.next(), stream.next(), stream.next()];
    sink.fill([event(1), event(2)]);
    expect(sink.waiting).toBe(true);
    sink.fill([event(3)]);
    expect(await Promise.all(asked)).toMatchObject([told(1), told(2), told(3)]);
  });

  test('ends after the last event, and tells nothing that follows it', async () => {
    const { sink, stream, told: counts } = open();
    const asked = [stream.next(), stream.next()];
    sink.fill([event(1, 'SUCCEEDED'), event(2)]);
    expect(await Promise.all(asked)).toMatchObject([told(1), done]);
    expect(await stream.next()).toEqual(done);
    expect(counts.ended).toBe(1);
  });

  test.each(['return', 'abort'])('ends at once by %s, also while it waits', async (way) => {
    const { gone, sink, stream, told: counts } = open();
    const waiting = stream.next();
    if (way === 'abort') gone.abort();
    else expect(await stream.return()).toEqual(done);
    expect(await waiting).toEqual(done);
    sink.fill([event(1)]);
    sink.end(new Error('late'));
    expect(await stream.next()).toEqual(done);
    expect(counts.ended).toBe(1);
    expect(getEventListeners(gone.signal, 'abort')).toEqual([]);
  });

  test('of a reader that was gone before it was made ends by itself', async () => {
    const told: string[] = [];
    const supply = {
      wanted: () => told.push('wanted'),
      ended: () => told.push('ended'),
    };
    const { stream } = createEventStream(0, AbortSignal.abort(), supply, isLastEvent);
    expect(told).toEqual([]);
    await Promise.resolve();
    expect(told).toEqual(['ended']);
    expect(await stream.next()).toEqual(done);
  });

  test('tells an error once, before what it still holds', async () => {
    const { sink, stream } = open();
    const waiting = stream.next();
    sink.fill([event(1), event(2)]);
    await waiting;
    sink.end(new Error('broken'));
    await expect(stream.next()).rejects.toThrow('broken');
    expect(await stream.next()).toEqual(done);
  });

  test('tells an error to who waits', async () => {
    const { sink, stream } = open();
    const asked = [stream.next(), stream.next()];
    sink.end(new Error('broken'));
    await expect(asked[0]).rejects.toThrow('broken');
    expect(await asked[1]).toEqual(done);
  });
});

describe('several events of a stream at once', () => {
  test('are what it was filled with, the very array; then what is left of it', async () => {
    const { sink, stream } = open();
    const waiting = stream.nextSome();
    const page = [event(1), event(2)];
    sink.fill(page);
    expect(await waiting).toBe(page);
    sink.fill([event(3), event(4), event(5)]);
    expect(await stream.next()).toEqual({ done: false, value: event(3) });
    expect(await stream.nextSome()).toEqual([event(4), event(5)]);
  });

  test('end with the last one; what follows is never told', async () => {
    const { told: counts, sink, stream } = open();
    const waiting = stream.nextSome();
    sink.fill([event(1), event(2, 'SUCCEEDED'), event(3)]);
    expect(await waiting).toEqual([event(1), event(2, 'SUCCEEDED')]);
    expect(await stream.nextSome()).toEqual([]);
    expect(counts.ended).toBe(1);
  });

  test('are none for who waits when it ends, and an error where it breaks off', async () => {
    const ended = open();
    const waiting = ended.stream.nextSome();
    await ended.stream.return();
    expect(await waiting).toEqual([]);
    const broken = open();
    broken.sink.fill([event(1)]);
    broken.sink.end(new Error('broken'));
    await expect(broken.stream.nextSome()).rejects.toThrow('broken');
    expect(await broken.stream.nextSome()).toEqual([]);
  });
});

describe('subscriptions of one caller', () => {
  const subscriptions = createEventSubscriptions({
    control: null as unknown as Knex, // nothing is read before a stream is
    connection: {},
    log: pino({ level: 'silent' }),
  });
  const request = {
    of: { operationId: 'a' },
    afterSequence: 0,
    signal: new AbortController().signal,
  };
  const open = (caller: string) => subscriptions.open({ ...request, caller });

  test('are at most 1000 on an instance; another caller is not concerned', async () => {
    const streams = Array.from({ length: 1000 }, () => open('one'));
    expect(() => open('one')).toThrow(expect.objectContaining({ code: 'RATE_LIMITED' }));
    open('other');
    await streams[0]?.return();
    open('one');
    expect(() => open('one')).toThrow('1000 subscriptions');
  });

  test('end with an error when the instance stops, and no new one begins', async () => {
    const stream = open('third');
    await subscriptions.close();
    await expect(stream.next()).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(() => open('third')).toThrow(expect.objectContaining({ code: 'UNAVAILABLE' }));
  });
});
