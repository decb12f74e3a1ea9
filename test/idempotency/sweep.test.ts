import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { schema } from '../../src/schema/index.ts';
import { createWorld, type Answer, type TestGateway, type World } from '../harness.ts';
import { bearer, startWithTokens } from '../tokens.ts';
import { mutations, writes, type Call, type Mutation, type Subject } from './writes.ts';

let world: World;
let gateway: TestGateway;
let caller: Record<string, string>;
/** Of the same partner, and somebody else. */
let colleague: Record<string, string>;
let count = 0;

beforeAll(async () => {
  world = await createWorld();
  gateway = await startWithTokens(world);
  const claims = { roles: ['partner-admin'], permissions: ['tenant:connect'], partner: 'sweep' };
  caller = await bearer({ ...claims, sub: 'caller' });
  colleague = await bearer({ ...claims, sub: 'colleague' });
});
afterAll(() => world.close());

const unique = (): string => `sweep-${(count += 1)}`;

async function graphql<T>(query: string, variables: object): Promise<T> {
  const { json, text } = await gateway.post('/graphql', { query, variables }, caller);
  const { data, errors } = json as { data: T; errors?: unknown };
  if (errors !== undefined) throw new Error(text);
  return data;
}

async function newSubject(): Promise<Subject> {
  const name = unique();
  const { made, later } = await graphql<{
    made: { tenant: { id: string; apiKeys: [{ id: string }] } };
    later: { operation: { id: string } };
  }>(
    `
      mutation ($made: CreateTenantInput!, $later: CreateTenantInput!) {
        made: createTenant(input: $made) {
          tenant {
            id
            apiKeys {
              id
            }
          }
        }
        later: createTenant(input: $later) {
          operation {
            id
          }
        }
      }
    `,
    {
      made: { name, isolation: 'SCHEMA' },
      later: {
        name: `${name} later`,
        isolation: 'SCHEMA',
        provisionAt: new Date(Date.now() + 86_400_000),
      },
    },
  );
  const { apiKeys, id } = made.tenant;
  return { id, apiKeyId: apiKeys[0].id, waitingOperationId: later.operation.id };
}

/** All that a second effect would change, but for the record of who was told what. */
async function effects(): Promise<unknown> {
  const [row] = await world.query(
    `SELECT (SELECT count(*) FROM control_plane.tenants) AS tenants,
       (SELECT sum(version) FROM control_plane.tenants) AS versions,
       (SELECT array_agg(status || deletion_protection ORDER BY id) FROM control_plane.tenants) AS statuses,
       (SELECT count(*) FROM control_plane.operations) AS operations,
       (SELECT count(*) FROM control_plane.batches) AS batches,
       (SELECT count(*) FROM control_plane.api_keys) AS keys,
       (SELECT array_agg(concat(expires_at, revoked_at) ORDER BY id) FROM control_plane.api_keys) AS ends,
       (SELECT count(*) FROM control_plane.audit_log WHERE action <> 'revealTenantConnection') AS audit`,
  );
  return row;
}

async function revealed(): Promise<number> {
  const rows = await world.query(
    `SELECT FROM control_plane.audit_log WHERE action = 'revealTenantConnection'`,
  );
  return rows.length;
}

/** Keys in the header and in the input come to the same. */
const carriers = ['header', 'input'] as const;

function mutate(
  field: string,
  { input, selection }: Mutation,
  { key, via, who }: { key: string; via: (typeof carriers)[number]; who: Record<string, string> },
): Promise<Answer> {
  const type = `${field.charAt(0).toUpperCase()}${field.slice(1)}Input!`;
  return gateway.post(
    '/graphql',
    {
      query: `mutation ($input: ${type}) { ${field}(input: $input) { ${selection} userErrors { code } } }`,
      variables: { input: via === 'input' ? { ...input, idempotencyKey: key } : input },
    },
    via === 'header' ? { ...who, 'Idempotency-Key': key } : who,
  );
}

/** Codes of the errors in an answer. */
function codes({ text }: Answer): string[] {
  return [...text.matchAll(/"code":"(\w+)"/g)].map(([, code]) => code!);
}

describe('every mutation of the schema', () => {
  test('is listed in writes.ts', () => {
    const fields = Object.keys(schema.getMutationType()?.getFields() ?? {});
    expect(Object.keys(mutations).sort()).toEqual(fields.sort());
  });

  describe.for(Object.entries(mutations))('Mutation.%s', ([field, line]) => {
    test.for(carriers)('is done once for one key, in the %s', async (via) => {
      const subject = await newSubject();
      const key = unique();
      const payload = line.same(subject, unique());
      const first = await mutate(field, payload, { key, via, who: caller });
      expect(codes(first), first.text).toEqual([]);
      const after = await effects();
      const told = await revealed();
      const again = await mutate(field, payload, { key, via, who: caller });
      expect(again.json).toEqual(first.json);
      const otherWay = via === 'header' ? 'input' : 'header';
      const thirdTime = await mutate(field, payload, { key, via: otherWay, who: caller });
      expect(thirdTime.json).toEqual(first.json);
      expect(await effects()).toEqual(after);
      expect((await revealed()) - told).toBe(line.tellsAgain ? 2 : 0);
    });

    test('is done once when it is sent several times at once', async () => {
      const subject = await newSubject();
      const key = unique();
      const payload = line.same(subject, unique());
      const answers = await Promise.all(
        [1, 2, 3].map(() => mutate(field, payload, { key, via: 'header', who: caller })),
      );
      for (const { json, text } of answers) {
        expect(codes({ text } as Answer)).toEqual([]);
        expect(json).toEqual(answers[0]!.json);
      }
    });

    test('refuses another payload for one key, and does nothing', async () => {
      const [subject, another] = [await newSubject(), await newSubject()];
      const key = unique();
      const name = unique();
      await mutate(field, line.same(subject, name), { key, via: 'header', who: caller });
      const after = await effects();
      const other = line.other(subject, another, name);
      const answer = await mutate(field, other, { key, via: 'header', who: caller });
      expect(codes(answer)).toEqual(['IDEMPOTENCY_MISMATCH']);
      expect(await effects()).toEqual(after);
    });

    test('knows nothing of somebody else’s key', async () => {
      const [subject, another] = [await newSubject(), await newSubject()];
      const key = unique();
      const name = unique();
      await mutate(field, line.same(subject, name), { key, via: 'header', who: caller });
      const other = line.other(subject, another, name);
      const answer = await mutate(field, other, { key, via: 'header', who: colleague });
      expect(codes(answer)).not.toContain('IDEMPOTENCY_MISMATCH');
    });

    test.for([
      ['none', ''],
      ['of 256 characters', 'k'.repeat(256)],
    ] as const)('refuses a key that is %s', async ([, key]) => {
      const subject = await newSubject();
      const before = await effects();
      const payload = line.same(subject, unique());
      const answer = await mutate(field, payload, { key, via: 'input', who: caller });
      expect(codes(answer)).toEqual(['INVALID']);
      expect(await effects()).toEqual(before);
    });

    test('takes a key of 255 characters', async () => {
      const subject = await newSubject();
      const key = `${unique()} `.padEnd(255, 'k');
      const payload = line.same(subject, unique());
      const answer = await mutate(field, payload, { key, via: 'input', who: caller });
      expect(codes(answer)).toEqual([]);
    });
  });
});

describe('every write of the OpenAPI document', () => {
  const routeOf = (name: string): string => name.replace(/ \(.*\)$/, '');

  function call(
    name: string,
    { body, path }: Call,
    headers: Record<string, string>,
  ): Promise<Answer> {
    const method = name.split(' ', 1)[0]!;
    if (method === 'POST' && body !== undefined) return gateway.post(path, body, headers);
    return send(method, path, body, headers);
  }

  async function send(
    method: string,
    path: string,
    body: object | undefined,
    headers: Record<string, string>,
  ): Promise<Answer> {
    const response = await fetch(`${gateway.url}${path}`, {
      method,
      headers: {
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    const json: unknown = text === '' ? undefined : JSON.parse(text);
    return { status: response.status, headers: response.headers, text, json };
  }

  test('is listed in writes.ts', async () => {
    const { paths } = (await gateway.get('/openapi.json')).json as {
      paths: Record<string, Record<string, unknown>>;
    };
    const listed = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods)
        .filter((method) => method !== 'get')
        .map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect([...new Set(Object.keys(writes).map(routeOf))].sort()).toEqual(listed.sort());
  });

  describe.for(Object.entries(writes))('%s', ([name, line]) => {
    test('is done once for one key', async () => {
      const subject = await newSubject();
      const headers = { ...caller, 'Idempotency-Key': unique() };
      const payload = line.same(subject, unique());
      const first = await call(name, payload, headers);
      expect(first.status, first.text).toBeLessThan(300);
      const after = await effects();
      const again = await call(name, payload, headers);
      expect({ status: again.status, json: again.json }).toEqual({
        status: first.status,
        json: first.json,
      });
      expect(await effects()).toEqual(after);
    });

    test('422 for another payload, and nothing is done', async () => {
      const [subject, another] = [await newSubject(), await newSubject()];
      const headers = { ...caller, 'Idempotency-Key': unique() };
      const unequal = unique();
      await call(name, line.same(subject, unequal), headers);
      const after = await effects();
      const answer = await call(name, line.other(subject, another, unequal), headers);
      expect(answer.status, answer.text).toBe(422);
      expect(answer.text).toMatch(/IDEMPOTENCY_MISMATCH|"loc":\["body","idempotencyKey"\]/);
      expect(await effects()).toEqual(after);
    });

    test('knows nothing of somebody else’s key', async () => {
      const [subject, another] = [await newSubject(), await newSubject()];
      const key = { 'Idempotency-Key': unique() };
      const unequal = unique();
      await call(name, line.same(subject, unequal), { ...caller, ...key });
      const other = line.other(subject, another, unequal);
      const answer = await call(name, other, { ...colleague, ...key });
      expect(answer.status, answer.text).toBeLessThan(300);
    });

    test('a key of 256 characters is refused', async () => {
      const subject = await newSubject();
      const before = await effects();
      const headers = { ...caller, 'Idempotency-Key': 'k'.repeat(256) };
      const answer = await call(name, line.same(subject, unique()), headers);
      expect(answer.status).toBe(name.includes('/v1/') ? 422 : 400);
      expect(await effects()).toEqual(before);
    });

    test('Prefer: respond-async answers at once with what to follow', async () => {
      const subject = await newSubject();
      const headers = { ...caller, 'Idempotency-Key': unique(), Prefer: 'respond-async' };
      const payload = line.same(subject, unique());
      const answer = await call(name, payload, headers);
      if (line.follows === null) {
        expect(answer.status).toBe(200);
        expect(answer.headers.get('location')).toBeNull();
        return;
      }
      expect(answer.status, answer.text).toBe(202);
      const { id } = answer.json as { id: string };
      const location = answer.headers.get('location');
      expect(location).toBe(`/api/${line.follows}/${id}`);
      await expect
        .poll(async () => {
          const { json } = await gateway.get(location!, caller);
          const { finished_at: finished, status } = json as Record<string, string | null>;
          return finished === null ? null : status;
        })
        .toBe('succeeded');
      // Whoever does not wait may ask again and wait.
      const again = await call(name, payload, {
        ...caller,
        'Idempotency-Key': headers['Idempotency-Key'],
      });
      expect(again.status, again.text).toBeLessThan(300);
      expect(again.status).not.toBe(202);
    });
  });
});
