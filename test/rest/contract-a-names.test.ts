import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { path } from './contract-a.ts';

let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
});
afterAll(() => world.close());

const environment = 'staging';

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
  ] as const)('%s', async ([, name]) => {
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
