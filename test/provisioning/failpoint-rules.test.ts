import { Writable } from 'node:stream';
import pino from 'pino';
import { describe, expect, test } from 'vitest';
import { isTransient } from '../../src/postgres/error-codes.ts';
import {
  createFailpoints,
  failpointNames,
  parseFailpoints,
} from '../../src/provisioning/failpoints.ts';
import { pointsOf, undoneSteps } from './failpoints.ts';
import { isolations } from './isolations.ts';

const silent = pino({ level: 'silent' });

describe('FAILPOINTS', () => {
  test.each([
    ['create_role:after=crash', [{ point: 'create_role:after', action: 'crash', times: Infinity }]],
    [
      ' create_database:after=crash ; verify_connection:before=throw*2;',
      [
        { point: 'create_database:after', action: 'crash', times: Infinity },
        { point: 'verify_connection:before', action: 'throw', times: 2 },
      ],
    ],
    ['a:b=throw-passing*10', [{ point: 'a:b', action: 'throw-passing', times: 10 }]],
    ['', []],
  ])('%j', (text, rules) => {
    expect(parseFailpoints(text)).toEqual(rules);
  });

  test.each([
    'create_role',
    'create_role:after',
    'x=crash',
    'a:b=boom',
    'a:b=throw*0',
    'a:b=throw*',
    'a:b==crash',
    'a:b=crash,c:d=crash',
  ])('%j is refused', (text) => {
    expect(parseFailpoints(text)).toBeUndefined();
  });

  test.each(isolations)('$isolation: there are points around every step', ({ isolation }) => {
    const names = failpointNames();
    const undone = undoneSteps('activate', isolation).map((step) => `${step}:compensate`);
    for (const point of [...pointsOf(isolation), ...undone]) expect(names).toContain(point);
  });

  test('throws as often as it should, what passes or what does not', async () => {
    const rules = parseFailpoints('a:b=throw-passing*2;a:b=throw*1')!;
    const failpoints = createFailpoints(rules, silent);
    const reach = (): Promise<unknown> =>
      failpoints.reach('a:b').then(
        () => null,
        (error: unknown) => isTransient(error),
      );
    expect([await reach(), await reach(), await reach(), await reach()]).toEqual([
      true,
      true,
      false,
      null,
    ]);
    await failpoints.reach('c:d');
  });

  test('tells the log which point it was', async () => {
    const lines: string[] = [];
    const log = pino(
      new Writable({
        write(chunk: Buffer, _encoding, done) {
          lines.push(chunk.toString());
          done();
        },
      }),
    );
    const failpoints = createFailpoints(parseFailpoints('a:b=throw')!, log);
    await failpoints.reach('a:b').catch(() => undefined);
    expect(JSON.parse(lines.join(''))).toMatchObject({ point: 'a:b', action: 'throw' });
  });
});
