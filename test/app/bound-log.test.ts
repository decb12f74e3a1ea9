import { Writable } from 'node:stream';
import pino, { type Logger } from 'pino';
import { describe, expect, test } from 'vitest';
import { boundLog } from '../../src/app/bound-log.ts';

/** A bounded logger, and the lines that it wrote. */
function logger(options: object = {}): { log: Logger; lines: string[] } {
  const lines: string[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(chunk.toString());
      done();
    },
  });
  return { log: boundLog(pino(options, stream)), lines };
}

const long = 'x'.repeat(900_000);

describe('a bounded logger', () => {
  test.for<[what: string, fields: object]>([
    ['a text', { operationName: long }],
    ['a name', { [long]: 1 }],
    ['a text within', { a: { b: { c: long } } }],
    ['a list', { ids: Array.from({ length: 100_000 }, () => 'id') }],
    ['a list of texts', { ids: Array.from({ length: 20 }, () => long) }],
    ['many fields', { all: Object.fromEntries(Array.from({ length: 90_000 }, (_, i) => [i, i])) }],
    ['an error', { err: new Error(long) }],
    [
      'a field of an error',
      { err: Object.assign(new Error('x'), { detail: long, query: [long] }) },
    ],
    ['the cause of an error', { err: new Error('x', { cause: new Error(long) }) }],
    ['an error under another name', { reason: new Error(long) }],
  ])('cuts %s', ([, fields]) => {
    const { log, lines } = logger();
    log.info(fields, 'the message');
    log.child({ operationId: 'a' }).info(fields, 'the message');
    for (const line of lines) {
      expect(line.length).toBeLessThan(30_000);
      expect(JSON.parse(line)).toMatchObject({ level: 30, msg: 'the message' });
    }
    expect(lines).toHaveLength(2);
  });

  test('says how long it was, and leaves what is short as it is', () => {
    const { log, lines } = logger();
    const at = new Date(0);
    log.info({ name: long, short: 'x', nested: { list: [1, null, { a: true }] }, at }, 'm');
    expect(JSON.parse(lines[0]!)).toMatchObject({
      name: `${'x'.repeat(1000)}… (900000 characters)`,
      short: 'x',
      nested: { list: [1, null, { a: true }] },
      at: at.toISOString(),
    });
  });

  test('writes out what would move the cursor of a terminal, wherever it stands', () => {
    const { log, lines } = logger();
    const red = '\u001b[31m\u009b2J\u202e\u0007';
    const cause = Object.assign(new Error(red), { detail: red });
    const err = Object.assign(new Error(red, { cause }), { table: red, list: [red] });
    log.error({ err, [red]: red, deep: { a: { b: red } } }, 'm');
    expect(lines[0]).not.toMatch(/[\u0080-\u009f\u202e]|\\u00(1b|07)/i);
    expect(lines[0]).toContain(String.raw`\\u{1b}[31m\\u{9b}2J\\u{202e}`);
  });

  test('tells all of a usual error, its stack and its cause', () => {
    const { log, lines } = logger();
    const cause = Object.assign(new Error('the cause'), { code: '57P01' });
    log.error({ err: Object.assign(new Error('the error', { cause }), { code: 'X' }) }, 'm');
    const { err } = JSON.parse(lines[0]!) as { err: { stack: string } };
    expect(err).toMatchObject({ type: 'Error', message: 'the error: the cause', code: 'X' });
    expect(err.stack).toMatch(/the error[^]*bound-log\.test\.ts[^]*caused by: Error: the cause/);
  });

  test('keeps what its parent hides hidden', () => {
    const { log, lines } = logger({
      redact: { paths: ['*.password', 'err.parameters'], censor: '***' },
    });
    const err = Object.assign(new Error('x'), { parameters: ['secret'] });
    log.info({ login: { password: 'secret' }, err }, 'm');
    expect(lines[0]).not.toContain('"secret"');
    expect(lines[0]).toContain('***');
  });

  test('ends where an object contains itself', () => {
    const { log, lines } = logger();
    const round: Record<string, unknown> = {};
    round['itself'] = round;
    log.info({ round }, 'm');
    expect(lines[0]!.length).toBeLessThan(1000);
  });
});
