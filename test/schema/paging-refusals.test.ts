import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';

let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
});
afterAll(() => world.close());

const id = '00000000-0000-4000-8000-000000000000';
const encoded = (parts: unknown): string =>
  Buffer.from(JSON.stringify(parts)).toString('base64url');
const moment = '2026-01-01 00:00:00.123456+00';
const wire = { $first: 'Int', $after: 'String', $last: 'Int', $before: 'String' };
const declared = Object.entries(wire).map((entry) => entry.join(': '));
const passed = Object.keys(wire).map((name) => `${name.slice(1)}: ${name}`);

const lists: readonly (readonly [field: string, document: string])[] = [
  ['tenants', `{ tenants(${passed.join()}) { totalCount } }`],
  ['operations', `{ operations(${passed.join()}) { totalCount } }`],
];

describe.for(lists)('Query.%s', ([field, selection]) => {
  const ask = (variables: object) =>
    gateway.post('/graphql', { query: `query (${declared.join()}) ${selection}`, variables });

  test.for([
    [{ first: 0 }, 'first must be 1 to 100'],
    [{ first: -1 }, 'first must be 1 to 100'],
    [{ first: 101 }, 'first must be 1 to 100'],
    [{ first: 2_147_483_647 }, 'first must be 1 to 100'],
    [{ first: -2_147_483_648 }, 'first must be 1 to 100'],
    [{ last: 0 }, 'last must be 1 to 100'],
    [{ last: -1 }, 'last must be 1 to 100'],
    [{ last: 101 }, 'last must be 1 to 100'],
    [{ first: 1, last: 1 }, 'first and last cannot be used together'],
    ...[
      '',
      'x',
      'null',
      '\0',
      '🐘',
      'x'.repeat(10_000),
      encoded(null),
      encoded([]),
      encoded({}),
      encoded('x'),
      encoded([moment, id]),
      encoded(['CREATED_AT', moment]),
      encoded(['CREATED_AT', moment, 'x']),
      encoded(['CREATED_AT', moment, `${id}'`]),
      encoded(['CREATED_AT', 1, id]),
      encoded(['CREATED_AT', 'garbage', id]),
      encoded(['CREATED_AT', '', id]),
      encoded(['CREATED_AT', '\0', id]),
      encoded(['CREATED_AT', 'now', id]),
      encoded(['CREATED_AT', 'infinity', id]),
      encoded(['CREATED_AT', '2026-02-30 00:00:00+00', id]),
      encoded(['CREATED_AT', '2026-01-01 25:00:00+00', id]),
      encoded(['CREATED_AT', '2026-01-01 00:00:00+16', id]),
      encoded(['CREATED_AT', '0000-01-01 00:00:00+00', id]),
      encoded(['NAME', 'acme', id]),
      encoded(['SLUG', moment, id]),
      encoded(['__proto__', moment, id]),
    ].flatMap((cursor): [object, string][] => [
      [{ after: cursor }, 'after is not a cursor of this list'],
      [{ last: 1, before: cursor }, 'before is not a cursor of this list'],
    ]),
  ] as const)('%j is BAD_USER_INPUT', async ([variables, message]) => {
    const answer = await ask(variables);
    expect(answer.status).toBe(400);
    expect(answer.json).toMatchObject({
      data: { [field]: null },
      errors: [{ message, path: [field], extensions: { code: 'BAD_USER_INPUT' } }],
    });
  });

  test.for([
    '2026-01-01 00:00:00+00',
    '2026-01-01 00:00:00.5+05:30',
    '2026-01-01 00:00:00-15:59:59',
    '9999-12-31 23:59:59.999999+00',
    '0001-01-01 00:00:00+00',
  ])('a cursor made up of %s is read', async (key) => {
    const answer = await ask({ first: 1, after: encoded(['CREATED_AT', key, id]) });
    expect(answer.json).toEqual({ data: { [field]: { totalCount: 0 } } });
  });
});

describe('Query.tenants', () => {
  const ask = (variables: object) =>
    gateway.post('/graphql', {
      query: `query ($after: String, $filter: TenantFilter, $orderBy: TenantOrder) {
        tenants(after: $after, filter: $filter, orderBy: $orderBy) { totalCount }
      }`,
      variables,
    });

  test.for(['NAME', 'SLUG'])('%s: cursors of other orders, and of no text', async (field) => {
    const orderBy = { field, direction: 'ASC' };
    for (const parts of [
      ['CREATED_AT', moment],
      [field, 'a\0'],
      [field, '\ud800'],
      [field, 1],
    ]) {
      const answer = await ask({ orderBy, after: encoded([...parts, id]) });
      expect(answer).toMatchObject({
        status: 400,
        json: { errors: [{ message: 'after is not a cursor of this list' }] },
      });
    }
    const answer = await ask({ orderBy, after: encoded([field, "'; --", id]) });
    expect(answer.json).toEqual({ data: { tenants: { totalCount: 0 } } });
  });

  test.for([
    ['search', 'a\0'],
    ['search', '\ud800'],
    ['cluster', '\0'],
    ['cluster', '\udfff'],
  ] as const)('filter.%s: %j is BAD_USER_INPUT', async ([name, value]) => {
    const answer = await ask({ filter: { [name]: value } });
    const message = `filter.${name} must be well-formed Unicode without NUL`;
    expect(answer).toMatchObject({
      status: 400,
      json: { errors: [{ message, extensions: { code: 'BAD_USER_INPUT' } }] },
    });
  });
});
