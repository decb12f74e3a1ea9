/** Every problem that the document shows is provoked, where anything provokes it. */
import { afterAll, afterEach, expect, test } from 'vitest';
import { createWorld, type TestGateway } from '../harness.ts';
import { exchange, type WireAnswer } from '../http/wire.ts';
import { scriptFailpoints } from '../provisioning/failpoints.ts';
import {
  createCheck,
  needsToken,
  operationsOf,
  readDocument,
  requestOf,
  type Operation,
} from './openapi-document.ts';
import { bearer, tokenSettings } from '../tokens.ts';

// Here and not in `beforeAll`: the document is the table of the tests.
const world = await createWorld();
afterAll(() => world.close());
const failpoints = scriptFailpoints();
afterEach(() => failpoints.clear());
const tokens = { ...tokenSettings, AUTH_MODE: 'open' };
const token = await bearer({ roles: ['platform-admin'] });
const gateway = await world.start({ failpoints, settings: tokens });
const impatient = await world.start({
  failpoints,
  settings: { ...tokens, SCHEMA_CREATION_TIMEOUT: '1', BATCH_PROCESSING_TIMEOUT: '1' },
});
const limited = await world.start({
  failpoints, // it makes items of batches that others accepted, too
  settings: {
    ...tokens,
    RATE_LIMIT_CREATIONS_PER_MINUTE: '10',
    RATE_LIMIT_BATCH_TENANTS_PER_MINUTE: '10',
    MAX_TENANTS_PER_PARTNER: '1',
  },
});
const document = await readDocument(gateway.url);
const check = createCheck(document);

interface Send {
  readonly body?: unknown;
  readonly raw?: string;
  readonly params?: Record<string, string>;
  readonly headers?: Record<string, string>;
  readonly query?: string;
  readonly at?: TestGateway;
}

/** The operation's first example, or what is given instead. */
async function send(operation: Operation, changes: Send = {}): Promise<WireAnswer> {
  const { at = gateway, body = operation.requests[0]?.[1], params, headers, query, raw } = changes;
  const proof = needsToken(operation) ? token : {};
  const request = requestOf(operation, body, params, { ...proof, ...headers });
  return exchange(at.url, {
    ...request,
    path: request.path + (query === undefined ? '' : `?${query}`),
    ...(raw === undefined ? {} : { body: raw }),
  });
}

let made = 0;

/** A tenant for one test, by GraphQL. */
async function makeTenant(input = ''): Promise<string> {
  const slug = `made-${++made}`;
  const { createTenant } = await gateway.graphql<{ createTenant: { userErrors: unknown[] } }>(
    `mutation {
      createTenant(input: { name: "Made", slug: "${slug}" ${input} }) { userErrors { message } }
    }`,
  );
  expect(createTenant.userErrors).toEqual([]);
  return slug;
}

/** An operation's path parameters that lead to a tenant of one test; none where it makes one. */
async function target(operation: Operation, input = ''): Promise<Record<string, string>> {
  if (operation.path.includes('{slug}')) return { slug: await makeTenant(input) };
  if (!/\/tenants\/\{(tenant_)?id\}/.test(operation.path)) return {};
  const [row] = await world.query<{ id: string }>(
    'SELECT id FROM control_plane.tenants WHERE slug = $1',
    [await makeTenant(input)],
  );
  return { id: row!.id, tenant_id: row!.id };
}

function freshBody(operation: Operation): unknown {
  const [example] = operation.requests[0]!.slice(1) as [Record<string, unknown> | undefined];
  if (example === undefined) return undefined;
  made += 1;
  if (example['tenants'] !== undefined) {
    const [first] = example['tenants'] as [Record<string, unknown>];
    const own =
      first['domain'] === undefined
        ? { company_name: `Fresh ${made}` }
        : { tenant_name: 'Fresh', domain: `f${made}.example.com`, schema_name: `fresh_${made}` };
    return { tenants: [{ ...first, ...own }] };
  }
  const slug = example['slug'] === undefined ? {} : { slug: `fresh-${made}` };
  const name = needsToken(operation) ? 'company_name' : 'name';
  return { ...example, [name]: `Fresh ${made}`, ...slug };
}

const firstStep = (operation: Operation): string =>
  operation.method === 'DELETE' ? 'disable_login' : 'create_database';

type Provoke = (operation: Operation) => Promise<WireAnswer>;

/** How each problem comes about. */
const provoke: Readonly<Record<string, Provoke>> = {
  UNAUTHENTICATED: (operation) => send(operation, { headers: { Authorization: 'Bearer nobody' } }),
  FORBIDDEN: (operation) => send(operation, { headers: { Host: 'tenantry.example.com' } }),
  METHOD_NOT_ALLOWED: (operation) => send({ ...operation, method: 'TRACE' }),
  MALFORMED_JSON: (operation) => send(operation, { raw: '{' }),
  UNSUPPORTED_MEDIA_TYPE: (operation) =>
    send(operation, { headers: { 'Content-Type': 'text/plain' } }),
  PAYLOAD_TOO_LARGE: (operation) => send(operation, { raw: ' '.repeat(1024 * 1024 + 1) }),
  NOT_FOUND: (operation) =>
    send(operation, { params: { slug: 'nobody', id: 'nobody', tenant_id: 'nobody' } }),
  RATE_LIMITED: async (operation) => {
    const tries = Array.from({ length: 11 }, () => send(operation, { at: limited }));
    return (await Promise.all(tries)).find(({ status }) => status === 429)!;
  },

  async INVALID(operation) {
    const optional = operation.method === 'PATCH'; // nothing to change is fine
    if (operation.requestBody !== undefined && !optional) return send(operation, { body: {} });
    if (operation.method === 'GET') return send(operation, { query: zeros(operation) });
    const headers = { 'Idempotency-Key': 'k'.repeat(256) };
    return send(operation, { headers, params: await target(operation) });
  },

  BAD_USER_INPUT: (operation) =>
    send(operation, { query: 'after=x', headers: { 'Last-Event-ID': 'x' } }),

  async TAKEN(operation) {
    // Another file may make the example itself: its database would have the same name.
    const example = operation.requests[0]![1] as Record<string, string>;
    const { name = 'Example Corp', slug } = example;
    const params = await target(operation);
    if (params['id'] !== undefined) {
      // The example of a creation made it, or now this does.
      await world.query('UPDATE control_plane.tenants SET name = $1 WHERE slug = $2', [
        name,
        await makeTenant(),
      ]);
      return send(operation, { params, body: { ...example, company_name: name } });
    }
    await world.query(
      `UPDATE control_plane.tenants SET name = $1, slug = coalesce($2, slug)
       WHERE slug = $3`,
      [name, slug, await makeTenant()],
    );
    return send(operation);
  },

  VERSION_MISMATCH: async (operation) =>
    send(operation, { params: await target(operation), headers: { 'If-Match': '"999"' } }),

  async LIMIT_EXCEEDED(operation) {
    await makeTenant();
    await world.query('DELETE FROM control_plane.rate_limits');
    return send(operation, { at: limited, body: freshBody(operation) });
  },

  async IDEMPOTENCY_MISMATCH(operation) {
    const headers = { 'Idempotency-Key': 'used' };
    await send(operation, { headers, body: freshBody(operation), params: await target(operation) });
    return send(operation, {
      headers,
      body: freshBody(operation),
      params: await target(operation),
    });
  },

  async INVALID_STATE(operation) {
    const params = await target(operation);
    if (operation.path.endsWith('/rotate')) {
      await gateway.graphql(
        'mutation ($id: ID!) { deleteTenant(input: { id: $id }) { operation { id } } }',
        params,
      );
      return send(operation, { params });
    }
    const held = failpoints.hold('disable_login:before');
    const first = send(operation, { params });
    await held.reached;
    const second = await send(operation, { params });
    held.release();
    await first;
    return second;
  },

  PROTECTED: async (operation) =>
    send(operation, { params: await target(operation, 'deletionProtection: true') }),

  async PROVISIONING_FAILED(operation) {
    const params = await target(operation);
    failpoints.fail(`${firstStep(operation)}:before`);
    return send(operation, { params, body: freshBody(operation) });
  },

  async INTERNAL_SERVER_ERROR(operation) {
    const tables = ['tenants', 'operations', 'batches'];
    for (const table of tables) {
      await world.query(`ALTER TABLE control_plane.${table} RENAME TO ${table}_elsewhere`);
    }
    try {
      return await send(operation, {
        params: {
          id: '550e8400-e29b-41d4-a716-446655440000',
          tenant_id: '550e8400-e29b-41d4-a716-446655440000',
        },
        body: freshBody(operation),
      });
    } finally {
      for (const table of tables) {
        await world.query(`ALTER TABLE control_plane.${table}_elsewhere RENAME TO ${table}`);
      }
    }
  },
};

/** What nothing can provoke from outside, and why. */
const unprovoked: Readonly<Record<string, string>> = {
  UNAVAILABLE: 'there is one cluster, and it always takes tenants',
};

function zeros({ parameters }: Operation): string {
  return parameters
    .flatMap((parameter) => ('name' in parameter && parameter.in === 'query' ? [parameter] : []))
    .map(({ name }) => `${name}=0`)
    .join('&');
}

type Documented = readonly [
  id: string,
  status: string,
  code: string,
  operation: Operation,
  example: unknown,
];

const problems: Documented[] = operationsOf(document).flatMap((operation) =>
  Object.entries(operation.responses).flatMap(([status, { content = {} }]) =>
    Object.entries(content['application/json']?.examples ?? {}).map(
      ([code, { value }]) => [operation.operationId, status, code, operation, value] as const,
    ),
  ),
);

function expectDocumented([, status, , operation, example]: Documented, answer: WireAnswer): void {
  expect(answer.json).toEqual(example);
  expect(answer.status).toBe(Number(status));
  check(operation, answer);
}

test('the rest is known', () => {
  const rest = problems.map(([, , code]) => code).filter((code) => provoke[code] === undefined);
  expect(new Set(rest)).toEqual(new Set(['TIMED_OUT', ...Object.keys(unprovoked)]));
});

test.each(problems.filter(([, , code]) => provoke[code] !== undefined))(
  '%s: %s %s',
  async (...documented) => {
    const [, , code, operation] = documented;
    expectDocumented(documented, await provoke[code]!(operation));
  },
);

const lateSteps = ['create_database', 'create_schema', 'disable_login'];

// All at once: an answer that waits comes 15 seconds after the deadline.
test('every 504 TIMED_OUT', async () => {
  const late = problems.filter(([, , code]) => code === 'TIMED_OUT');
  const targets = await Promise.all(late.map(([, , , operation]) => target(operation)));
  // Neither done nor undone before the answer is due.
  for (const step of lateSteps) failpoints.fail(`${step}:before`);
  const held = lateSteps.map((step) => failpoints.hold(`${step}:compensate`));
  const answers = await Promise.all(
    late.map(([, , , operation], index) =>
      send(operation, { at: impatient, params: targets[index]!, body: freshBody(operation) }),
    ),
  );
  for (const hold of held) hold.release();
  for (const [index, documented] of late.entries()) expectDocumented(documented, answers[index]!);
});
