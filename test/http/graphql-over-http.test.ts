import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { serverAudits } from 'graphql-http';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { countTenants } from '../rest/contract-a.ts';

let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
});
afterAll(() => world.close());

const query = '{ viewer { kind } }';
const data = { viewer: { kind: 'OPERATOR' } };
const create = 'mutation { createTenant(input: { name: "by GET" }) { userErrors { code } } }';
const at = (parameters: Record<string, string>): string =>
  `/graphql?${new URLSearchParams(parameters).toString()}`;

describe('the audit of graphql-http', () => {
  // Every one of them: a new version of the audit may bring more.
  const audits = serverAudits({ url: () => `${gateway.url}/graphql` });

  test.for(audits)('$id $name', async (audit) => {
    const result = await audit.fn();
    expect(result).toMatchObject({ status: 'ok' });
  });
});

describe('GET /graphql', () => {
  test.for<[Record<string, string>, object]>([
    [{ query }, data],
    [
      { query: `query A { viewer { kind } } query B { viewer { subject } }`, operationName: 'A' },
      data,
    ],
    [
      { query: 'query ($slug: String) { tenant(slug: $slug) { id } }', variables: '{"slug": "x"}' },
      { tenant: null },
    ],
  ])('answers a query (%#)', async ([parameters, expected]) => {
    const answer = await gateway.get(at(parameters));
    expect(answer).toMatchObject({ status: 200, json: { data: expected } });
  });

  test.for([
    { query: create },
    {
      query: `${create} ${query.replace('{', 'query Q {')}`.replace('mutation', 'mutation M'),
      operationName: 'M',
    },
  ])('refuses a mutation: 405 (%#)', async (parameters) => {
    const answer = await gateway.get(at(parameters));
    expect(answer.status).toBe(405);
    expect(answer.headers.get('allow')).toBe('POST');
    expect(answer.json).toMatchObject({ errors: [{ extensions: { code: 'BAD_REQUEST' } }] });
    expect(await countTenants(world)).toBe(0);
  });

  test.for([
    [{}, 400],
    [{ query: '{' }, 400],
    [{ query, variables: 'x' }, 400],
    [{ query, variables: '[]' }, 400],
    [{ query, variables: '"x"' }, 400],
    [{ query, extensions: '1' }, 400],
  ] as const)('refuses what cannot be read: %j', async ([parameters, status]) => {
    const headers = { Accept: 'application/graphql-response+json' };
    const answer = await gateway.get(at(parameters), headers);
    expect(answer.status).toBe(status);
    expect(answer.json).toHaveProperty('errors');
  });

  test('HEAD runs nothing', async () => {
    const response = await fetch(`${gateway.url}${at({ query })}`, { method: 'HEAD' });
    expect(response.status).toBe(405);
  });
});

describe('POST /graphql', () => {
  test.for([
    ['application/x-www-form-urlencoded', new URLSearchParams({ query: create }).toString()],
    ['application/x-www-form-urlencoded; charset=utf-8', `query=${encodeURIComponent(create)}`],
    [
      'multipart/form-data; boundary=b',
      [
        '--b',
        'Content-Disposition: form-data; name="operations"',
        '',
        JSON.stringify({ query: create }),
        '--b',
        'Content-Disposition: form-data; name="map"',
        '',
        '{}',
        '--b--',
        '',
      ].join('\r\n'),
    ],
    ['application/graphql', create],
    ['application/graphql+json', JSON.stringify({ query: create })],
    ['text/plain', JSON.stringify({ query: create })],
    ['text/plain; application/json', JSON.stringify({ query: create })],
    [' ', JSON.stringify({ query: create })],
  ] as const)('refuses %s: 415', async ([type, body]) => {
    const answer = await gateway.post('/graphql', body, { 'Content-Type': type });
    expect(answer.status).toBe(415);
    expect(answer.json).toEqual({
      errors: [
        {
          message: 'Content-Type must be application/json',
          extensions: { code: 'BAD_REQUEST' },
        },
      ],
    });
    expect(await countTenants(world)).toBe(0);
  });

  test.for([
    ['an array of requests', [{ query }, { query }]],
    ['an array of one', [{ query }]],
    ['an empty array', []],
    ['null', 'null'],
    ['a number', '1'],
    ['a string', '"{viewer{kind}}"'],
    ['nothing', ''],
    ['no JSON', '{'],
    ['no UTF-8', Buffer.from([0x7b, 0xff, 0x7d])],
    ['query is a number', { query: 1 }],
    ['query is null', { query: null }],
    ['variables are a list', { query, variables: [] }],
    ['variables are a text', { query, variables: '{}' }],
    ['extensions are a number', { query, extensions: 1 }],
    ['an unknown parameter', { query, documentId: 'x' }],
  ])('refuses %s: 400', async ([, body]) => {
    const headers = { Accept: 'application/graphql-response+json' };
    const answer = await gateway.post('/graphql', body, headers);
    expect(answer.status).toBe(400);
    expect(answer.json).toEqual({
      errors: [{ message: expect.any(String) as string, extensions: { code: 'BAD_REQUEST' } }],
    });
  });

  test.for([
    [
      '__proto__ as variable',
      '{"query": "query ($s: String) { tenant(slug: $s) { id } }", "variables": {"__proto__": {"s": "x"}}}',
      400,
    ],
    [
      'constructor as variable',
      '{"query": "{ viewer { kind } }", "variables": {"constructor": 1}}',
      200,
    ],
    [
      '100,000 levels of variables',
      `{"query": "{ viewer { kind } }", "variables": {"x": ${'['.repeat(100_000)}${']'.repeat(100_000)}}}`,
      200,
    ],
    [
      '1,000 levels where a text is due',
      `{"query": "query ($s: String) { tenant(slug: $s) { id } }", "variables": {"s": ${'['.repeat(1000)}${']'.repeat(1000)}}}`,
      400,
    ],
  ] as const)('%s', async ([, body, status]) => {
    const headers = { Accept: 'application/graphql-response+json' };
    expect((await gateway.post('/graphql', body, headers)).status).toBe(status);
  });

  test.for(['application/json', 'application/graphql-response+json', '*/*', 'application/*'])(
    'Accept: %s',
    async (accept) => {
      const answer = await gateway.post('/graphql', { query }, { Accept: accept });
      const type = accept.includes('*') ? 'application/json' : accept;
      expect(answer.headers.get('content-type')).toBe(`${type}; charset=utf-8`);
      expect(answer).toMatchObject({ status: 200, json: { data } });
    },
  );

  test('Accept: image/png is 406', async () => {
    const answer = await gateway.post('/graphql', { query }, { Accept: 'image/png' });
    expect(answer.status).toBe(406);
  });

  test.for([
    'application/json',
    'application/graphql-response+json',
    'text/event-stream',
    'multipart/mixed',
  ])('no extensions.http in what %s gets', async (accept) => {
    for (const document of [
      '{ tenant { id } }',
      '{ viewer { kind } tenant { id } }',
      '{ x }',
      '{',
    ]) {
      const { text } = await gateway.post('/graphql', { query: document }, { Accept: accept });
      expect(text).toContain('"errors"');
      expect(text).not.toContain('"http"');
      expect(text).not.toContain('originalError');
      expect(text).not.toContain('stack');
    }
  });
});
