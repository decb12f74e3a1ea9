import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { schema } from '../../src/schema/index.ts';
import { createWorld, type Answer, type TestGateway, type World } from '../harness.ts';
import { bearer, startWithTokens } from '../tokens.ts';
import {
  batchSeers,
  callers,
  fields,
  publicRoutes,
  routes,
  seers,
  strangers,
  type CallerName,
  type Target,
} from './matrix.ts';

/** What comes of an attempt. `nothing`: as if partner A's tenant were not there. */
type Outcome = 'done' | 'nothing' | 'FORBIDDEN' | 'UNAUTHENTICATED';

interface Subject extends Omit<Target, 'unique'> {
  readonly apiKey: string;
}

let world: World;
let gateway: TestGateway;
let people: Record<Exclude<CallerName, 'tenant key'>, Record<string, string>>;
let shared: Subject;
let count = 0;

beforeAll(async () => {
  world = await createWorld();
  gateway = await startWithTokens(world);
  const roles = ['partner-admin'];
  const past = Math.floor(Date.now() / 1000) - 3600;
  people = {
    'partner A': await bearer({ sub: 'a', roles, partner: 'matrix-a' }),
    'partner B': await bearer({ sub: 'b', roles, partner: 'matrix-b' }),
    'subject named like partner A': await bearer({ sub: 'matrix-a', roles }),
    viewer: await bearer({ sub: 'v', roles: ['partner-viewer'], partner: 'matrix-a' }),
    'platform admin': await bearer({ sub: 'p', roles: ['platform-admin'] }),
    'expired token': await bearer({ roles, partner: 'matrix-a', exp: past }),
    'wrong audience': await bearer({ roles, partner: 'matrix-a', aud: 'another' }),
    'reserved partner': await bearer({ roles, partner: 'sub:matrix-a' }),
    'no credentials': {},
  };
  shared = await newSubject();
});
afterAll(() => world.close());

async function newSubject(): Promise<Subject> {
  const query = `mutation { createTenantsBatch(input: { tenants: [{ name: "matrix ${(count += 1)}" }] }) {
    batch { id results { tenant { id number apiKeys { id } } operation { id } apiKey } } } }`;
  const { json } = await gateway.post('/graphql', { query }, people['partner A']);
  const { batch } = (
    json as {
      data: {
        createTenantsBatch: {
          batch: {
            id: string;
            results: [
              {
                tenant: { id: string; number: number; apiKeys: [{ id: string }] };
                operation: { id: string };
                apiKey: string;
              },
            ];
          };
        };
      };
    }
  ).data.createTenantsBatch;
  const [made] = batch.results;
  return {
    batchId: batch.id,
    tenantId: made.tenant.id,
    tenantNumber: made.tenant.number,
    apiKeyId: made.tenant.apiKeys[0].id,
    operationId: made.operation.id,
    apiKey: made.apiKey,
  };
}

function expected(
  { allowed, about, tokenOnly }: (typeof fields)[string] | (typeof routes)[string],
  caller: CallerName,
): Outcome {
  if (strangers.includes(caller)) return 'UNAUTHENTICATED';
  if (tokenOnly && caller === 'tenant key') return 'UNAUTHENTICATED';
  if (!allowed.includes(caller)) return 'FORBIDDEN';
  if (about === 'caller') return 'done';
  return (about === 'batch' ? batchSeers : seers).includes(caller) ? 'done' : 'nothing';
}

/** By status and code, and by whether the answer shows anything of the tenant. */
function outcomeOf({ status, headers, text }: Answer, subject: Subject, about: string): Outcome {
  if (status === 401) {
    expect(text).toMatch(/UNAUTHENTICATED|"detail":"(Credentials are required|The token)/);
    expect(headers.get('www-authenticate')).toBe('Bearer');
    return 'UNAUTHENTICATED';
  }
  const isForbidden = status === 403 || text.includes('"FORBIDDEN"');
  const isDone =
    about === 'caller' || status === 204
      ? status < 300 && !/"errors"|"code"/.test(text)
      : [
          subject.tenantId,
          subject.tenantId.replaceAll('-', '_'),
          `{"tenant_id":${subject.tenantNumber},`,
        ].some((id) => text.includes(id));
  expect(isForbidden && isDone, 'an answer to one who may not').toBe(false);
  if (isForbidden) return 'FORBIDDEN';
  if (isDone) {
    expect(text).not.toMatch(/"errors"|"code"/);
    return 'done';
  }
  expect(about, text).not.toBe('caller');
  expect(text).toMatch(/NOT_FOUND|null|\[\]|"detail":"Not found"/);
  return 'nothing';
}

/** Whoever changes the tenant for good, gets one of its own. */
async function target(spoils: boolean, outcome: Outcome): Promise<Subject> {
  return spoils && outcome === 'done' ? newSubject() : shared;
}

function headersOf(caller: CallerName, { apiKey }: Subject): Record<string, string> {
  return caller === 'tenant key' ? { 'X-API-Key': apiKey } : people[caller];
}

const unique = (): string => `matrix-${(count += 1)}`;

describe('every field of the schema × every caller', () => {
  const coordinates = [
    schema.getQueryType(),
    schema.getMutationType(),
    schema.getSubscriptionType(),
  ].flatMap((type) =>
    Object.keys(type?.getFields() ?? {}).map((name) => `${type?.name ?? ''}.${name}`),
  );

  test('is listed in matrix.ts', () => {
    expect(Object.keys(fields).sort()).toEqual([...coordinates].sort());
  });

  describe.for(Object.entries(fields))('%s', ([coordinate, line]) => {
    test.for(callers)('%s', async (caller) => {
      const wanted = expected(line, caller);
      const subject = await target(line.spoils, wanted);
      const operation = coordinate.split('.', 1)[0]!.toLowerCase();
      const query = `${operation} { ${line.make({ ...subject, unique: unique() })} }`;
      const answer = await gateway.post(
        '/graphql',
        { query },
        {
          ...headersOf(caller, subject),
          ...(operation === 'subscription' ? { Accept: 'text/event-stream' } : {}),
        },
      );
      expect(outcomeOf(answer, subject, line.about)).toBe(wanted);
    });
  });
});

describe('every path and method of the OpenAPI document × every caller', () => {
  test('is listed in matrix.ts', async () => {
    const { paths } = (await gateway.get('/openapi.json')).json as {
      paths: Record<string, Record<string, unknown>>;
    };
    const listed = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect([...Object.keys(routes), ...publicRoutes].sort()).toEqual(listed.sort());
  });

  describe.for(Object.entries(routes))('%s', ([route, line]) => {
    test.for(callers)('%s', async (caller) => {
      const wanted = expected(line, caller);
      const subject = await target(line.spoils, wanted);
      const { path, body } = line.make({ ...subject, unique: unique() });
      const response = await fetch(`${gateway.url}${path}`, {
        method: route.split(' ', 1)[0]!,
        headers: { 'Content-Type': 'application/json', ...headersOf(caller, subject) },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const { status, headers } = response;
      const answer = { status, headers, text: await response.text(), json: undefined };
      const outcome = outcomeOf(answer, subject, line.about);
      expect(outcome).toBe(wanted);
      if (outcome === 'FORBIDDEN') expect(status).toBe(403);
    });
  });

  test.for(publicRoutes)('%s asks for no credentials', async (route) => {
    for (const headers of [{}, people['expired token']]) {
      expect((await gateway.get(route.split(' ', 2)[1]!, headers)).status).toBe(200);
    }
  });
});
