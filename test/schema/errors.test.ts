import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type Answer, type TestGateway, type World } from '../harness.ts';

let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
});
afterAll(() => world.close());

const ask = (query: string, variables: object = {}, headers = {}): Promise<Answer> =>
  gateway.post('/graphql', { query, variables }, headers);
const strict = { Accept: 'application/graphql-response+json' };

describe('a value that does not fit its type', () => {
  const mutation = `mutation ($input: CreateTenantInput!) {
    createTenant(input: $input) { userErrors { code } }
  }`;
  test.for([
    [mutation, {}],
    [mutation, { input: null }],
    [mutation, { input: 'acme' }],
    [mutation, { input: [] }],
    [mutation, { input: {} }],
    [mutation, { input: { name: null } }],
    [mutation, { input: { name: 1 } }],
    [mutation, { input: { name: ['a'] } }],
    [mutation, { input: { name: 'a', environment: 'TEST' } }],
    [mutation, { input: { name: 'a', environment: 'production' } }],
    [mutation, { input: { name: 'a', environment: '__proto__' } }],
    [mutation, { input: { name: 'a', isolation: 1 } }],
    [mutation, { input: { name: 'a', wait: 'no' } }],
    [mutation, { input: { name: 'a', unknown: true } }],
    [mutation, { input: { name: 'a', __proto__x: true } }],
    [mutation, { input: { name: 'a', settings: { limits: { users: 1.5 } } } }],
    [mutation, { input: { name: 'a', settings: { limits: { users: 2 ** 31 } } } }],
    [mutation, { input: { name: 'a', settings: { limits: { users: '7' } } } }],
    [mutation, { input: { name: 'a', settings: { features: [null] } } }],
    ['query ($id: ID!) { operation(id: $id) { id } }', { id: {} }],
    ['query ($n: Int) { tenants(first: $n) { totalCount } }', { n: '1' }],
    ['query ($n: Int) { tenants(first: $n) { totalCount } }', { n: 2 ** 31 }],
    ...['x', '2026-02-30T00:00:00Z', '2026-01-01', 1767225600].map(
      (at) =>
        [
          'query ($at: DateTime) { tenants(filter: { createdAfter: $at }) { totalCount } }',
          { at },
        ] as const,
    ),
  ] as const)('%#: $1 is a top-level error', async ([query, variables]) => {
    const refused = await ask(query, variables, strict);
    expect(refused.status).toBe(400);
    expect(refused.headers.get('content-type')).toMatch(/^application\/graphql-response\+json/);
    expect(refused.json).not.toHaveProperty('data');
    expect(refused.json).toMatchObject({ errors: [{ extensions: { code: 'BAD_USER_INPUT' } }] });
    // GraphQL over HTTP: with application/json, 200 says no more than that the request was read.
    const told = await ask(query, variables, { Accept: 'application/json' });
    expect(told).toMatchObject({ status: 200, json: refused.json as object });
  });

  test.for([
    'mutation { createTenant(input: { name: "a", environment: TEST }) { userErrors { code } } }',
    'mutation { createTenant(input: { name: 1 }) { userErrors { code } } }',
    'mutation { createTenant(input: {}) { userErrors { code } } }',
    'mutation { createTenant { userErrors { code } } }',
    '{ tenants(filter: { status: [GONE] }) { totalCount } }',
    '{ tenants(orderBy: { field: NAME }) { totalCount } }',
    '{ nothing }',
    '{ viewer }',
    '{ viewer { kind { x } } }',
    'subscription { nothing }',
    '{ ...Nothing }',
    '{',
    '',
  ])('in the document: %s', async (query) => {
    const refused = await ask(query, {}, strict);
    expect(refused.status).toBe(400);
    expect(refused.json).not.toHaveProperty('data');
    const told = await ask(query, {}, { Accept: 'application/json' });
    expect(told).toMatchObject({ status: 200, json: refused.json as object });
  });
});

test.for([
  { query: 'query A { viewer { kind } } query B { viewer { kind } }' },
  { query: 'query A { viewer { kind } }', operationName: 'B' },
  { query: 'fragment F on Viewer { kind }' },
])('which operation is meant must be clear: %j', async (body) => {
  const answer = await gateway.post('/graphql', body, strict);
  expect(answer.status).toBe(400);
  expect(answer.json).not.toHaveProperty('data');
});

describe('the error of one field', () => {
  test('leaves the data of the others, with 200', async () => {
    const answer = await ask('{ viewer { kind } tenant { id } tenants { totalCount } }');
    expect(answer.status).toBe(200);
    expect(answer.json).toMatchObject({
      data: { viewer: { kind: 'OPERATOR' }, tenant: null, tenants: { totalCount: 0 } },
      errors: [{ path: ['tenant'], extensions: { code: 'BAD_USER_INPUT' } }],
    });
  });

  test('sets the status when no field has data', async () => {
    const answer = await ask('{ a: tenant { id } b: tenants(first: 0) { totalCount } }');
    expect(answer.status).toBe(400);
    expect(answer.json).toMatchObject({
      data: { a: null, b: null },
      errors: [{ path: ['a'] }, { path: ['b'] }],
    });
  });

  test('the most serious status counts', async () => {
    await world.query('ALTER TABLE control_plane.tenants RENAME TO elsewhere');
    try {
      const answer = await ask('{ a: tenant { id } b: tenants { totalCount } }');
      expect(answer.status).toBe(500);
    } finally {
      await world.query('ALTER TABLE control_plane.elsewhere RENAME TO tenants');
    }
  });
});

describe('an unexpected error', () => {
  async function unexpected(query: string, headers: Record<string, string>): Promise<Answer> {
    await world.query('ALTER TABLE control_plane.tenants RENAME TO elsewhere');
    try {
      return await ask(query, {}, headers);
    } finally {
      await world.query('ALTER TABLE control_plane.elsewhere RENAME TO tenants');
    }
  }
  const logged = (requestId: string): Record<string, unknown> =>
    gateway
      .logs()
      .split('\n')
      .filter((line) => line.includes(requestId))
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .find(({ err }) => err !== undefined)!;

  test('is INTERNAL_SERVER_ERROR with the id of the request, which is in the log too', async () => {
    const answer = await unexpected('{ tenants { totalCount } }', {});
    const requestId = answer.headers.get('x-request-id')!;
    expect(answer.status).toBe(500);
    expect(answer.json).toEqual({
      data: { tenants: null },
      errors: [
        {
          message: 'Unexpected error',
          locations: [{ line: 1, column: 3 }],
          path: ['tenants'],
          extensions: { code: 'INTERNAL_SERVER_ERROR', requestId },
        },
      ],
    });
    expect(logged(requestId)).toMatchObject({
      level: 50,
      path: ['tenants'],
      err: { code: '42P01', message: expect.stringContaining('tenants') as string },
    });
  });

  test('leaves the data of other fields, with 200', async () => {
    const headers = { 'X-Request-Id': 'partly' };
    const answer = await unexpected('{ viewer { kind } tenants { totalCount } }', headers);
    expect(answer.status).toBe(200);
    expect(answer.json).toMatchObject({
      data: { viewer: { kind: 'OPERATOR' }, tenants: null },
      errors: [{ extensions: { code: 'INTERNAL_SERVER_ERROR', requestId: 'partly' } }],
    });
  });

  test.for([
    'application/json',
    'application/graphql-response+json',
    'text/event-stream',
    'multipart/mixed',
  ])('says nothing more to a client that accepts %s', async (accept) => {
    const { text } = await unexpected('{ tenants { totalCount } }', { Accept: accept });
    expect(text).toContain('INTERNAL_SERVER_ERROR');
    for (const word of [
      '42P01',
      'relation',
      'control_plane',
      'select',
      'stack',
      '.ts:',
      '"http"',
    ]) {
      expect(text).not.toContain(word);
    }
  });
});
