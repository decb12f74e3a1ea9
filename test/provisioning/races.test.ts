import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { scriptFailpoints } from './failpoints.ts';
import { isolations } from './isolations.ts';
import { createTenant, type CreatePayload } from './tenants.ts';

let world: World;
/** Two instances on one control plane: a race within one process proves less. */
let gateways: readonly TestGateway[];

beforeAll(async () => {
  world = await createWorld();
  gateways = await Promise.all([world.start(), world.start()]);
});
afterAll(() => world.close());

const crowd = 20;

/** The same request `crowd` times at once, over both instances. */
function allAtOnce(input: (index: number) => object): Promise<CreatePayload[]> {
  return Promise.all(
    Array.from({ length: crowd }, (_, index) =>
      createTenant(gateways[index % gateways.length]!, input(index)),
    ),
  );
}

/** What another instance answers, whose look at the steps may come before the last was written. */
function withoutSteps({ operation, ...payload }: CreatePayload): object {
  return { ...payload, operation: { ...operation, steps: null } };
}

function statusesOf(payloads: readonly CreatePayload[]): string[] {
  return payloads
    .map(({ tenant, userErrors }) => tenant?.status ?? userErrors.map(({ code }) => code).join())
    .toSorted();
}

describe(`Mutation.createTenant, ${crowd} at once`, () => {
  test.each<{ race: string; input: (index: number) => object; field: string; message: string }>([
    {
      race: 'one unique name',
      input: () => ({ name: 'The One', uniqueName: true }),
      field: 'name',
      message: "Tenant with name 'The One' already exists",
    },
    {
      race: 'one slug',
      input: (index) => ({ name: `Racer ${index}`, slug: 'the-slug' }),
      field: 'slug',
      message: "Tenant with slug 'the-slug' already exists",
    },
    {
      race: 'one slug, databases named by it',
      input: (index) => ({ name: `R ${index}`, slug: 'raced-for', databaseNaming: 'SLUG' }),
      field: 'slug',
      message: "Tenant with slug 'raced-for' already exists",
    },
    {
      race: 'one slug, schemas named by it',
      input: (index) => ({ name: `R ${index}`, slug: 'raced-schema', isolation: 'SCHEMA' }),
      field: 'slug',
      message: "Tenant with slug 'raced-schema' already exists",
    },
    {
      race: 'one domain, in different cases',
      input: (index) => ({
        name: `Racer ${index}`,
        domain: index % 2 === 0 ? 'Race.Example.com' : 'race.example.COM',
      }),
      field: 'domain',
      message: 'Domain already exists: ',
    },
  ])('$race: exactly one wins', async ({ input, field, message }) => {
    const payloads = await allAtOnce(input);
    expect(statusesOf(payloads)).toEqual(['ACTIVE', ...Array<string>(crowd - 1).fill('TAKEN')]);
    const errors = payloads.flatMap((payload) => payload.userErrors);
    for (const error of errors) {
      expect(error.field).toEqual(['input', field]);
      expect(error.message).toContain(message);
    }
    // The losers left nothing: no row of theirs was ever committed.
    const [won] = payloads.flatMap((payload) => payload.tenant ?? []);
    const rows = await world.query(
      `SELECT id FROM control_plane.tenants WHERE status = 'ACTIVE' AND
         CASE $1 WHEN 'name' THEN name = $2 WHEN 'slug' THEN slug = $2
                 ELSE lower(domain) = lower($2) END`,
      [field, { name: won?.name, slug: won?.slug, domain: won?.domain }[field]],
    );
    expect(rows).toEqual([{ id: won?.id }]);
  });

  test.each<{ race: string; input: (index: number) => object; schema: string }>([
    {
      race: 'one schema name',
      input: () => ({ schemaName: 'Raced_For' }),
      schema: 'Raced_For',
    },
    {
      race: 'slugs that make one schema name',
      input: (index) => ({ slug: `raced${'-_'.charAt(index % 2)}twice-${index >> 1}` }),
      schema: 'tenant_raced_twice_',
    },
  ])('$race: exactly one wins', async ({ input, schema }) => {
    const payloads = await allAtOnce((index) => ({
      name: `Racer ${index}`,
      isolation: 'SCHEMA',
      ...input(index),
    }));
    const names = payloads.flatMap(({ tenant }) => tenant?.database.schemaName ?? []);
    expect(new Set(names).size).toBe(names.length);
    const losers = payloads.filter(({ tenant }) => tenant === null);
    expect(names.length).toBe(crowd - losers.length);
    expect(losers.length).toBe(schema.endsWith('_') ? crowd / 2 : crowd - 1);
    for (const { userErrors } of losers) {
      expect(userErrors).toEqual([
        {
          code: 'TAKEN',
          message: expect.stringContaining(`Schema already exists: ${schema}`) as string,
          field: ['input', 'schemaName'],
        },
      ]);
    }
  });

  test.each(isolations)(
    '$isolation, one name, not unique: every one gets a slug of its own',
    async ({ isolation }) => {
      const payloads = await allAtOnce(() => ({ name: `Same ${isolation}`, isolation }));
      expect(statusesOf(payloads)).toEqual(Array(crowd).fill('ACTIVE'));
      const slugs = payloads.map((payload) => payload.tenant?.slug ?? '');
      expect(new Set(slugs).size).toBe(crowd);
      for (const slug of slugs) expect(slug).toMatch(/^same-(database|schema)(-[a-z0-9]{6})?$/);
    },
  );

  test('derived slugs that make one schema name: every one gets its own', async () => {
    await createTenant(gateways[0]!, { name: 'x', slug: 'same_place', isolation: 'SCHEMA' });
    const payloads = await allAtOnce(() => ({ name: 'Same Place', isolation: 'SCHEMA' }));
    expect(statusesOf(payloads)).toEqual(Array(crowd).fill('ACTIVE'));
  });

  test.each<[string, object]>([
    ['a derived slug', { name: 'Retried' }],
    ['a slug of its own', { name: 'Retried', slug: 'retried-slug' }],
    ['a domain', { name: 'Retried', domain: 'retried.example.com' }],
    ['a unique name', { name: 'Retried Once', uniqueName: true }],
    ['a schema name', { name: 'Retried', isolation: 'SCHEMA', schemaName: 'retried' }],
  ])('one idempotency key, %s: one tenant, and all answers are equal', async (name, input) => {
    const key = `retry: ${name}`;
    const payloads = await allAtOnce(() => ({ ...input, idempotencyKey: key }));
    expect(payloads[0]?.tenant?.status).toBe('ACTIVE');
    expect(payloads[0]?.apiKey).toMatch(/^tk_/);
    const answers = payloads.map(withoutSteps);
    for (const answer of answers) expect(answer).toEqual(answers[0]);
    const made = await world.query(
      `SELECT operation_id FROM control_plane.idempotency_records WHERE key = $1`,
      [key],
    );
    expect(made).toEqual([{ operation_id: payloads[0]?.operation?.id }]);
  });
});

test('MAX_TENANTS_PER_PARTNER holds in a race; what was undone does not count', async () => {
  const failpoints = scriptFailpoints();
  const limited = await world.start({ failpoints, settings: { MAX_TENANTS_PER_PARTNER: '3' } });
  const partner = 'small';
  const create = (index: number) => createTenant(limited, { name: `Few ${index}`, partner });
  failpoints.fail('create_role:before');
  expect(statusesOf([await create(0)])).toEqual(['PROVISIONING_FAILED']);
  failpoints.clear();
  const payloads = await Promise.all(Array.from({ length: 12 }, (_, index) => create(index)));
  expect(statusesOf(payloads)).toEqual([
    ...Array<string>(3).fill('ACTIVE'),
    ...Array<string>(9).fill('LIMIT_EXCEEDED'),
  ]);
  const elsewhere = await createTenant(limited, { name: 'Other', partner: 'another' });
  expect(elsewhere.tenant?.status).toBe('ACTIVE');
});

describe('two names of one slug', () => {
  test.each([
    ['Müller & Söhne', 'muller-sohne', 'Muller, Sohne!'],
    ['Status', undefined, 'STATUS'],
    ['日本', undefined, '中国'],
    ['42', undefined, '4711'],
  ])('%s and %s', async (first, slug, second) => {
    const [a, b] = await Promise.all(
      [first, second].map((name, index) => createTenant(gateways[index]!, { name })),
    );
    expect(a?.tenant?.status).toBe('ACTIVE');
    expect(b?.tenant?.status).toBe('ACTIVE');
    expect(a?.tenant?.slug).not.toBe(b?.tenant?.slug);
    if (slug !== undefined) expect([a?.tenant?.slug, b?.tenant?.slug]).toContain(slug);
  });
});
