import { getIntrospectionQuery } from 'graphql';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type Answer, type TestGateway, type World } from '../harness.ts';
import { countTenants } from '../rest/contract-a.ts';

let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
});
afterAll(() => world.close());

const ask = (query: string, headers = {}): Promise<Answer> =>
  gateway.post('/graphql', { query }, headers);
const times = (count: number, make: (index: number) => string): string =>
  Array.from({ length: count }, (_, index) => make(index)).join(' ');
/** Operations of tenants of operations …: two levels of lists, then one of an object. */
const nested = (fields: readonly string[]): string =>
  fields.reduceRight((inner, field) => `${field}${inner === '' ? '' : ` { ${inner} }`}`, '');
const one = '(first: 1)';
const tenFields = [
  `tenants${one}`,
  'nodes',
  `operations${one}`,
  'nodes',
  'tenant',
  `operations${one}`,
  'nodes',
  'tenant',
  'settings',
  'limits',
];
const chain = (length: number): string =>
  times(length, (index) => `fragment F${index} on Viewer { ...F${index + 1} ...F${index + 1} }`);

const deep = 'A document may be at most 10 levels deep';
const tokens = 'A document may have at most 2000 tokens';
const bytes = 'A document may have at most 102400 bytes';
const aliases = 'A document may have at most 30 aliases';
const directives = 'A document may have at most 50 directives';
const costs = /^The document costs \S+, more than the 20000 allowed: ask for less at once$/;

describe('a document over a limit: 400, and nothing of it runs', () => {
  test.for<[what: string, document: string, message: string | RegExp]>([
    ['10,000 levels', `${'{ a '.repeat(10_000)}${'}'.repeat(10_000)}`, tokens],
    ['10,000 levels that never end', '{ a '.repeat(10_000), tokens],
    ['10,000 levels of a list value', `{ tenant(slug: ${'['.repeat(10_000)}) { id } }`, tokens],
    ['11 levels', `{ ${nested([...tenFields, 'users'])} }`, deep],
    [
      '11 levels through fragments',
      `{ ${nested([...tenFields.slice(0, 5), '...F'])} }
       fragment F on Tenant { ${nested([...tenFields.slice(5), 'users'])} }`,
      deep,
    ],
    [
      '11 levels through inline fragments',
      `{ ... { ${nested([...tenFields, '... { users }'])} } }`,
      deep,
    ],
    ['31 aliases', `{ ${times(31, (index) => `a${index}: viewer { kind }`)} }`, aliases],
    [
      '31 aliases through fragments',
      `{ ${times(16, (index) => `a${index}: viewer { kind }`)} ...F }
       fragment F on Query { ${times(15, (index) => `b${index}: viewer { kind }`)} }`,
      aliases,
    ],
    [
      '31 creations',
      `mutation { ${times(31, (index) => `a${index}: createTenant(input: { name: "a" }) { apiKey }`)} }`,
      aliases,
    ],
    ['51 directives', `{ viewer { kind ${times(51, () => '@skip(if: false)')} } }`, directives],
    ['51 unknown directives', `{ viewer { kind ${times(51, () => '@x')} } }`, directives],
    ['2001 tokens', `{ ${'__typename '.repeat(1999)}}`, tokens],
    ['2001 tokens of nothing', ', '.repeat(10) + '! '.repeat(2001), tokens],
    ['1 MB of comments', `# ${'x'.repeat(1_000_000)}\n{ viewer { kind } }`, bytes],
    ['100 KiB and one byte of spaces', `{ viewer { kind } }${' '.repeat(102_400 - 18)}`, bytes],
    ['100 KiB of two bytes each', `# ${'é'.repeat(51_200)}\n{ viewer { kind } }`, bytes],
    [
      'too many rows',
      '{ tenants(first: 100) { nodes { operations(first: 100) { nodes { steps { name } } } } } }',
      costs,
    ],
    [
      'too many rows beside what costs nothing',
      '{ __typename tenants(first: 100) { nodes { operations(first: 100) { nodes { steps { name } } } } } }',
      costs,
    ],
    [
      'fragments that double 150 times',
      `{ viewer { ...F0 } } ${chain(150)} fragment F150 on Viewer { kind }`,
      costs,
    ],
    [
      'a creation that asks for too much',
      `mutation { createTenant(input: { name: "costly" }) { tenant { operations(first: 100) {
         nodes { tenant { operations(first: 100) { nodes { steps { name } } } } } } } } }`,
      costs,
    ],
  ])('%s', async ([, document, message]) => {
    for (const accept of ['application/json', 'application/graphql-response+json']) {
      const answer = await ask(document, { Accept: accept });
      expect(answer.status).toBe(400);
      expect(answer.json).toEqual({
        errors: [
          {
            message:
              typeof message === 'string' ? message : (expect.stringMatching(message) as string),
            extensions: { code: 'BAD_USER_INPUT' },
          },
        ],
      });
    }
    expect(await countTenants(world)).toBe(0);
  });

  test('also with GET', async () => {
    const query = `{ ${nested([...tenFields, 'users'])} }`;
    const answer = await gateway.get(`/graphql?${new URLSearchParams({ query }).toString()}`);
    expect(answer).toMatchObject({ status: 400, json: { errors: [{ message: deep }] } });
  });

  test('also when another operation of the document is asked for', async () => {
    const query = `query A { viewer { kind } } query B { ${nested([...tenFields, 'users'])} }`;
    const answer = await gateway.post('/graphql', { query, operationName: 'A' });
    expect(answer).toMatchObject({ status: 400, json: { errors: [{ message: deep }] } });
  });

  test('also the second time, when it is known already', async () => {
    const document = `{ viewer { kind ${times(51, () => '@include(if: true)')} } }`;
    for (let time = 0; time < 3; time += 1) {
      expect(await ask(document)).toMatchObject({
        status: 400,
        json: { errors: [{ message: directives }] },
      });
    }
  });
});

describe('a document at a limit is answered', () => {
  test.for([
    ['10 levels', `{ ${nested([...tenFields, '__typename'])} }`],
    ['30 aliases', `{ ${times(30, (index) => `a${index}: viewer { kind }`)} }`],
    [
      '50 directives',
      `{ ${times(25, (index) => `...F${index} @skip(if: false)`)} }${times(25, (index) => `fragment F${index} on Query { viewer @include(if: true) { kind } }`)}`,
    ],
    ['100 KiB of comments', `# ${'x'.repeat(102_400 - 22)}\n{ viewer { kind } }`],
    [
      '100 tenants with all their fields',
      `{ tenants(first: 100) { totalCount nodes {
        id number partner name slug environment status domain description email phoneNumber industry
        settings { features limits { users storageGb } } isolation deletionProtection version
        createdAt updatedAt activatedAt deletedAt purgeAt lastActivityAt
        database { cluster databaseName schemaName migrationVersion status sizeBytes }
        apiKeys { id prefix createdAt lastUsedAt expiresAt revokedAt }
        operations(first: 1) { nodes { id kind status } }
      } } }`,
    ],
  ] as const)('%s', async ([, document]) => {
    const answer = await ask(document);
    expect(answer.status).toBe(200);
    expect(answer.json).not.toHaveProperty('errors');
  });
});

describe('fragments that go round', () => {
  test.for([
    '{ viewer { ...A } } fragment A on Viewer { ...A }',
    '{ viewer { ...A } } fragment A on Viewer { ...B } fragment B on Viewer { ...A }',
    '{ tenants { nodes { ...A } } } fragment A on Tenant { operations { nodes { tenant { ...A } } } }',
  ])('%s', async (document) => {
    const answer = await ask(document, { Accept: 'application/graphql-response+json' });
    expect(answer.status).toBe(400);
    expect(answer.json).not.toHaveProperty('data');
  });
});

describe('introspection', () => {
  test('INTROSPECTION=on: the standard query passes', async () => {
    const answer = await ask(getIntrospectionQuery({ oneOf: true, schemaDescription: true }));
    expect(answer.status).toBe(200);
    expect(answer.json).toMatchObject({ data: { __schema: { queryType: { name: 'Query' } } } });
  });

  test('INTROSPECTION=on: not as deep as one likes', async () => {
    const fields = Array.from({ length: 8 }, () => ['fields', 'type']).flat();
    const answer = await ask(`{ ${nested(['__schema', 'types', ...fields, 'name'])} }`, {
      Accept: 'application/graphql-response+json',
    });
    expect(answer.status).toBe(400);
  });

  test('INTROSPECTION=off: neither schema nor types, but names of types', async () => {
    const closed = await world.start({ settings: { INTROSPECTION: 'off' } });
    const strict = { Accept: 'application/graphql-response+json' };
    for (const query of [
      getIntrospectionQuery(),
      '{ __schema { queryType { name } } }',
      '{ __type(name: "Tenant") { name } }',
      '{ ...F } fragment F on Query { __schema { queryType { name } } }',
    ]) {
      const answer = await closed.post('/graphql', { query }, strict);
      expect(answer.status).toBe(400);
      expect(answer.json).not.toHaveProperty('data');
    }
    const answer = await closed.post('/graphql', { query: '{ __typename viewer { __typename } }' });
    const data = { __typename: 'Query', viewer: { __typename: 'Viewer' } };
    expect(answer.json).toEqual({ data });
  });
});
