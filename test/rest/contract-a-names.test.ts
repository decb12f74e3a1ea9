import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { scriptFailpoints } from '../provisioning/failpoints.ts';
import { countTenants, path, problem } from './contract-a.ts';
import { findVectors } from './vectors.ts';

let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
});
afterAll(() => world.close());

const environment = 'staging';
const naughtyStrings = findVectors('naughty-strings.json');

describe('POST /api/v1/tenants: names are stored and returned as given', () => {
  test.for([
    ['one character', 'x'],
    ['255 characters', 'x'.repeat(255)],
    ['255 emoji, 510 code units and 1020 bytes', '🐘'.repeat(255)],
    ['accents', 'Café Zürich Łódź'],
    ['combining marks without end', `Z${'\u0351\u0335\u0489'.repeat(80)}`],
    ['a combining mark first', '\u0301x'],
    ['right to left', 'شركة أكمي – חברה'],
    ['bidirectional controls', '\u202ereversed\u202c \u2066isolated\u2069'],
    ['CJK and beyond the BMP', '株式会社 𠮷野家 𝒜𝒸𝓂ℯ'],
    ['an emoji of many', '👩‍👩‍👧‍👦🏳️‍🌈👍🏽'],
    ['spaces alone', '   '],
    ['spaces of all kinds', '\u00a0\u2003\u3000\u200b\ufeff'],
    ['line ends and tabs', 'a\r\nb\tc\u2028d\u0085e'],
    ['control characters', '\u0001\u001f\u007f\u009f'],
    ['noncharacters', '\uffff\ufffe\u{10ffff}\ufdd0'],
    ['the replacement character', '\ufffd'],
    ['SQL', `'); DROP TABLE "control_plane".tenants; -- \\ $1 ? ?? :name`],
    ['quotes and backslashes', '"\'`\\ \\u0000 \\x00'],
    ['a template and a path', '${process.env} {{x}} ../../etc/passwd %00 <script>'],
    ['only what slugs have none of', '---'],
    ['a reserved slug', 'operations'],
    ['a UUID', '550e8400-e29b-41d4-a716-446655440000'],
    ['digits', '0123456789'],
    ['a word of JSON', 'null'],
    ['a member of every object', '__proto__'],
  ])('%s', async ([, name]) => {
    const answer = await gateway.post(path, { name, environment });
    expect(answer).toMatchObject({ status: 201, json: { name, status: 'active' } });
    const { tenant_id: id } = answer.json as { tenant_id: string };
    const { tenant } = await gateway.graphql<{ tenant: { name: string; slug: string } }>(
      'query ($id: ID!) { tenant(id: $id) { name slug } }',
      { id },
    );
    expect(tenant.name).toBe(name);
    expect(tenant.slug).toMatch(/^[a-z][a-z0-9]*([-_][a-z0-9]+)*$/);
    expect(tenant.slug.length).toBeLessThanOrEqual(48);
    const again = await gateway.post(path, { name, environment });
    expect(again.status).toBe(400);
    expect(again.json).toEqual({ detail: `Tenant with name '${name}' already exists` });
  });
});

describe('POST /api/v1/tenants: any text as name', () => {
  // Making a database for each would take minutes, and shows no more of the name than its row does.
  let doomed: TestGateway;
  beforeAll(async () => {
    const failpoints = scriptFailpoints();
    failpoints.fail('create_role:before');
    doomed = await world.start({ failpoints });
  });

  /** Recorded as given (and undone, since this gateway makes nothing), or refused without a trace. */
  async function check(name: string, body: string): Promise<void> {
    const before = await countTenants(world);
    const answer = await doomed.post(path, body);
    const length = Array.from(name).length;
    if (length >= 1 && length <= 255 && name.isWellFormed() && !name.includes('\0')) {
      expect(answer.json).toEqual({
        detail: 'Step create_role failed. Everything was undone.',
      });
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
    .tuple(fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }), fc.integer({ min: 253, max: 257 }))
    .map(([character, length]) => character.repeat(length));

  test.for([
    ['any code points', fc.string({ unit: 'binary', maxLength: 60 })],
    ['letters with their marks', fc.string({ unit: 'grapheme', maxLength: 60 })],
    ['any code units', codeUnits],
    ['surrogates in all orders', surrogates],
    ['around 255 characters', atTheLimit],
  ] as const)('%s', async ([, names]) => {
    await fc.assert(
      fc.asyncProperty(names, fc.boolean(), (name, escapes) =>
        check(name, escapes ? escaped(name) : plain(name)),
      ),
      { numRuns: 40 },
    );
  });

  test.skipIf(naughtyStrings === null)('the big list of naughty strings', async () => {
    const names = JSON.parse(await readFile(naughtyStrings!, 'utf8')) as string[];
    for (const name of new Set(names)) await check(name, plain(name));
  });
});

test('POST /api/v1/tenants: NUL and lone surrogates are refused wherever they stand', async () => {
  const names = fc.tuple(
    fc.string({ unit: 'grapheme', maxLength: 20 }),
    fc.constantFrom('\0', '\ud800', '\udbff', '\udc00', '\udfff'),
    fc.string({ unit: 'grapheme', maxLength: 20 }),
  );
  const rules = {
    nul: 'name must not contain the NUL character',
    lone: 'name must be well-formed Unicode (lone surrogate found)',
  };
  const before = await countTenants(world);
  await fc.assert(
    fc.asyncProperty(names, async ([head, bad, tail]) => {
      const answer = await gateway.post(path, { name: head + bad + tail, environment });
      const rule = bad === '\0' ? rules.nul : rules.lone;
      expect(answer.json).toEqual(problem('value_error', ['name'], rule));
    }),
    { numRuns: 50 },
  );
  expect(await countTenants(world)).toBe(before);
});
