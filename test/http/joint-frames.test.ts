import { Writable } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createJointFrames } from '../../src/http/joint-frames.ts';
import { createSpareBuffers } from '../../src/http/spare-buffers.ts';
import { textFramesLength, writeTextFrames } from '../../src/http/text-frames.ts';

/** Messages that begin with a letter of their own, of up to 30 kB. */
const messages = fc
  .record({
    beginning: fc.stringMatching(/^[a-z]{1,10}$/),
    lengths: fc.array(fc.integer({ min: 0, max: 30_000 }), { minLength: 1, maxLength: 4 }),
  })
  .map(({ beginning, lengths }) => ({
    beginning: Buffer.from(beginning),
    rests: lengths.map((length) => Buffer.from(beginning.slice(0, 1).repeat(length))),
  }));

function bytesOf(all: readonly { beginning: Buffer; rests: readonly Buffer[] }[]): Buffer {
  const bytes = Buffer.alloc(all.reduce((sum, one) => sum + textFramesLength(one), 0));
  let at = 0;
  for (const one of all) at = writeTextFrames(bytes, at, one);
  return bytes;
}

/** A wire that looks at what it was given as late as it may: when it says that it has taken it. */
function lateWire(): { wire: Writable; taken: Buffer[]; takeOne: () => void } {
  const taken: Buffer[] = [];
  const given: (() => void)[] = [];
  const wire = new Writable({
    write(chunk: Buffer, _encoding, done) {
      given.push(() => {
        taken.push(Buffer.from(chunk));
        done();
      });
    },
  });
  return { wire, taken, takeOne: () => given.shift()?.() };
}

describe('createJointFrames', () => {
  test('writes what waits in one piece and in order, whatever other sockets write meanwhile', () => {
    const step = fc.record({
      socket: fc.nat(2),
      messages,
      flush: fc.boolean(),
      take: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const sockets = Array.from({ length: 3 }, () => {
          const late = lateWire();
          const frames = createJointFrames(late.wire, () => true);
          return { ...late, frames, sent: [] as (typeof steps)[number]['messages'][], told: 0 };
        });
        for (const { socket, messages: some, flush, take } of steps) {
          const one = sockets[socket]!;
          one.sent.push(some);
          one.frames.add(some, () => (one.told += 1));
          if (flush) one.frames.flush();
          if (take) one.takeOne();
        }
        for (const { frames, sent, taken, takeOne, wire } of sockets) {
          frames.flush();
          expect(frames.bytes).toBe(0);
          while (wire.writableLength > 0) takeOne();
          expect(Buffer.concat(taken).equals(bytesOf(sent))).toBe(true);
        }
      }),
      { numRuns: 100 },
    );
  });

  test('tells that they were taken once they were', async () => {
    const { wire, takeOne } = lateWire();
    const frames = createJointFrames(wire, () => true);
    const told: number[] = [];
    const some = { beginning: Buffer.from('a'), rests: [Buffer.from('b'), Buffer.from('c')] };
    frames.add(some, () => told.push(1));
    frames.add(some, () => told.push(2));
    expect(frames.bytes).toBe(2 * textFramesLength(some));
    frames.flush();
    await new Promise(setImmediate);
    expect(told).toEqual([]);
    takeOne();
    await new Promise(setImmediate);
    expect(told).toEqual([1, 2]);
  });

  test('drops what waits for a socket that takes nothing any more, and tells it', () => {
    const { wire } = lateWire();
    const frames = createJointFrames(wire, () => false);
    let told = 0;
    frames.add({ beginning: Buffer.from('a'), rests: [Buffer.from('b')] }, () => (told += 1));
    frames.flush();
    expect([told, wire.writableLength, frames.bytes]).toEqual([1, 0, 0]);
  });
});

describe('createSpareBuffers', () => {
  test('a buffer is long enough, whatever was given back before', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 3_000_000 }), { maxLength: 20 }),
        (lengths) => {
          const spares = createSpareBuffers(1024 * 1024);
          for (const length of lengths) {
            const buffer = spares.take(length);
            expect(buffer.length).toBeGreaterThanOrEqual(length);
            spares.giveBack(buffer);
          }
        },
      ),
    );
  });

  test('one that was given back is taken again; those beyond the limit are left to be collected', () => {
    const spares = createSpareBuffers(64 * 1024);
    const [first, second, third] = [spares.take(30_000), spares.take(30_000), spares.take(30_000)];
    for (const buffer of [first, second, third]) spares.giveBack(buffer);
    const again = [spares.take(30_000), spares.take(30_000), spares.take(30_000)];
    expect(new Set(again).size).toBe(3);
    expect(again.filter((buffer) => [first, second].includes(buffer))).toHaveLength(2);
    expect(again).not.toContain(third);
  });
});
