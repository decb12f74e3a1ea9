import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { makeTenant } from '../provisioning/tenants.ts';
import { findVectors } from '../rest/vectors.ts';

let world: World;
let gateway: TestGateway;
let tenantId: string;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
  tenantId = (await makeTenant(gateway, { name: 'any text' })).tenant.id;
});
afterAll(() => world.close());

interface Result {
  readonly data?: Record<string, unknown> | null;
  readonly errors?: readonly {
    readonly message: string;
    readonly extensions?: { readonly code?: string };
  }[];
}
interface Payload {
  readonly tenant: Record<string, unknown> | null;
  readonly userErrors: readonly { readonly code: string; readonly field: readonly string[] }[];
}

/** Runs a document; what it answers is never an error of ours. */
async function run(query: string, variables: object): Promise<Result> {
  const answer = await gateway.post('/graphql', { query, variables });
  expect(answer.status, JSON.stringify(variables)).toBeLessThan(500);
  const result = answer.json as Result;
  for (const { extensions, message } of result.errors ?? []) {
    expect(['BAD_USER_INPUT', 'NOT_FOUND'], message).toContain(extensions?.code);
  }
  return result;
}

const questions = `query ($text: String!, $id: ID!) {
  a: tenant(id: $id) { id }
  b: tenant(slug: $text) { id }
  c: tenant(domain: $text) { id }
  d: operation(id: $id) { id }
  e: tenants(filter: { search: $text }) { nodes { name } }
  f: tenants(filter: { cluster: $text }) { nodes { name } }
  g: tenants(after: $text) { nodes { name } }
  h: operations(filter: { tenantId: $id }) { nodes { id } }
  j: auditLog(filter: { actor: $text, action: $text, tenantId: $id }) { nodes { id } }
  k: auditLog(before: $text, last: 1) { nodes { id } }
}`;

const creation = `mutation ($input: CreateTenantInput!) {
  createTenant(input: $input) { tenant { id } userErrors { code field } }
}`;

const update = `mutation ($input: UpdateTenantInput!) {
  updateTenant(input: $input) {
    tenant { name description industry }
    userErrors { code field }
  }
}`;

const byId = ['deleteTenant', 'revealTenantConnection', 'rotateTenantApiKey'].map(
  (name) => `${name}(input: { id: $id }) { userErrors { code } }`,
);
const others = `mutation ($id: ID!) {
  ${byId.join('\n')}
  revokeTenantApiKey(input: { id: "${'0'.repeat(8)}-0000-4000-8000-${'0'.repeat(12)}", apiKeyId: $id }) { userErrors { code } }
}`;

async function check(text: string): Promise<void> {
  await run(questions, { text, id: text });
  const changes = (await run(others, { id: text })).data ?? {};
  for (const payload of Object.values(changes)) {
    expect(payload).toEqual({ userErrors: [{ code: 'NOT_FOUND' }] });
  }

  // One field that none of these texts fits: nothing is made of the others.
  const everywhere = {
    ...{ name: text, slug: text, schemaName: text, cluster: text, partner: text, domain: text },
    ...{ description: text, email: `${text} no address`, phoneNumber: text, industry: text },
    settings: { features: [text] },
  };
  const created = (await run(creation, { input: everywhere })).data?.['createTenant'] as Payload;
  expect(created.tenant).toBeNull();
  expect(created.userErrors).toContainEqual({ code: 'INVALID', field: ['input', 'email'] });

  // What can be kept comes back as it was; what cannot is refused by name.
  const input = { id: tenantId, name: text, description: text, industry: text };
  const updated = (await run(update, { input })).data?.['updateTenant'] as Payload;
  const length = Array.from(text).length;
  const isText = length > 0 && text.isWellFormed() && !text.includes('\0');
  const wrong = ['name', 'description', 'industry'].filter(
    (field) => !isText || length > (field === 'description' ? 4000 : 255),
  );
  expect(updated.userErrors).toEqual(
    wrong.map((field) => ({ code: 'INVALID', field: ['input', field] })),
  );
  if (wrong.length === 0) {
    expect(updated.tenant).toEqual({ name: text, description: text, industry: text });
  }
}

describe('any text in any field of GraphQL', () => {
  test.for([
    ['any code points', fc.string({ unit: 'binary', maxLength: 60 })],
    [
      'any code units',
      fc.uint16Array({ maxLength: 40 }).map((units) => String.fromCharCode(...units)),
    ],
    [
      'around 255 and 4000 characters',
      fc
        .tuple(fc.constantFrom('a', 'é', '🐘', '\0'), fc.constantFrom(254, 255, 256, 4000, 4001))
        .map(([character, length]) => character.repeat(length)),
    ],
  ] as const)('%s', async ([, texts]) => {
    await fc.assert(fc.asyncProperty(texts, check), { numRuns: 30 });
  });

  const file = findVectors('naughty-strings.json');
  test.skipIf(file === null)('the big list of naughty strings', { timeout: 120_000 }, async () => {
    const texts = JSON.parse(await readFile(file!, 'utf8')) as string[];
    for (const text of new Set(texts)) await check(text);
  });

  test('nothing of it was an error of ours', () => {
    expect(gateway.logs()).not.toContain('"level":50');
  });
});
