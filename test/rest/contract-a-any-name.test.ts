import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { scriptFailpoints } from '../provisioning/failpoints.ts';
import { countTenants, path } from './contract-a.ts';
import { findVectors } from './vectors.ts';

let world: World;
let gateway: TestGateway;

// To make a database for each name would take minutes, and show no more of the name than its row does.
beforeAll(async () => {
  world = await createWorld();
  const failpoints = scriptFailpoints();
  failpoints.fail('create_role:before');
  gateway = await world.start({ failpoints });
});
afterAll(() => world.close());

const environment = 'staging';
const naughtyStrings = findVectors('naughty-strings.json');

describe('POST /api/v1/tenants: any text as name', () => {
  /** Recorded as given (and undone, since this gateway makes nothing), or refused without a trace. */
  async function check(name: string, body: string): Promise<void> {
    const before = await countTenants(world);
    const answer = await gateway.post(path, body);
    const length = Array.from(name).length;
    if (length >= 1 && length <= 255 && name.isWellFormed() && !name.includes('\0')) {
      const detail = 'Step create_role failed. Everything was undone.';
      expect(answer.json).toEqual({ detail });
      const [row] = await world.query<{ name: string; status: string }>(
        'SELECT name, status FROM control_plane.tenants ORDER BY number DESC LIMIT 1',
      );
      expect(row).toEqual({ name, status: 'FAILED' });
      return;
    }
    expect(answer.status).toBe(422);
    expect(answer.json).toMatchObject({ detail: [{ loc: ['body', 'name'] }] });
    expect(await countTenants(world)).toBe(before);
  }

  const plain = (name: string): string => JSON.stringify({ name, environment });
  const escaped = (name: string): string => {
    const units = Array.from({ length: name.length }, (_, index) =>
      name.charCodeAt(index).toString(16).padStart(4, '0'),
    );
    return `{"environment": "${environment}", "name": "${units.map((unit) => `\\u${unit}`).join('')}"}`;
  };
  const codeUnits = fc
    .uint16Array({ minLength: 0, maxLength: 40 })
    .map((units) => String.fromCharCode(...units));
  const surrogates = fc
    .array(fc.constantFrom('\ud83d', '\udc18', '🐘', 'a'), { maxLength: 6 })
    .map((parts) => parts.join(''));
  const atTheLimit = fc
    .tuple(
      fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }),
      fc.integer({ min: 253, max: 257 }),
    )
    .map(([character, length]) => character.repeat(length));
  const unstorable = fc
    .tuple(
      fc.string({ unit: 'grapheme', maxLength: 20 }),
      fc.constantFrom('\0', '\ud800', '\udbff', '\udc00', '\udfff'),
      fc.string({ unit: 'grapheme', maxLength: 20 }),
    )
    .map((parts) => parts.join(''));

  test.for([
    ['any code points', fc.string({ unit: 'binary', maxLength: 60 })],
    ['letters with their marks', fc.string({ unit: 'grapheme', maxLength: 60 })],
    ['any code units', codeUnits],
    ['surrogates in all orders', surrogates],
    ['around 255 characters', atTheLimit],
    ['what cannot be stored, anywhere', unstorable],
  ] as const)('%s', async ([, names]) => {
    await fc.assert(
      fc.asyncProperty(names, fc.boolean(), (name, escapes) =>
        check(name, escapes ? escaped(name) : plain(name)),
      ),
      { numRuns: 100 },
    );
  });

  test.skipIf(naughtyStrings === null)('the big list of naughty strings', async () => {
    const names = JSON.parse(await readFile(naughtyStrings!, 'utf8')) as string[];
    for (const name of new Set(names)) await check(name, plain(name));
  });
});
