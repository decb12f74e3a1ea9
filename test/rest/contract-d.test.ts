import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { exchange, type WireAnswer } from '../http/wire.ts';
import { makeTenant } from '../provisioning/tenants.ts';
import { bearer, tokenSettings } from '../tokens.ts';

const path = '/api/provisioning/tenants';
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

let world: World;
let gateway: TestGateway;
/** Headers by caller. */
let admin: Record<string, string>;
let viewer: Record<string, string>;
let other: Record<string, string>;

beforeAll(async () => {
  world = await createWorld();
  // Open mode takes tokens as well: there the operator needs none, and here it does.
  gateway = await world.start({ settings: { ...tokenSettings, AUTH_MODE: 'open' } });
  admin = await bearer({ roles: ['partner-admin'], partner: 'acme' });
  viewer = await bearer({ roles: ['partner-viewer'], partner: 'acme' });
  other = await bearer({ roles: ['partner-admin'], partner: 'globex' });
});
afterAll(() => world.close());

interface Asked {
  readonly body?: object | string;
  readonly headers?: Record<string, string>;
}

function ask(method: string, at: string, { body, headers = admin }: Asked = {}) {
  return exchange(gateway.url, {
    method,
    path: `${path}${at}`,
    headers: { ...(body === undefined ? {} : { 'Content-Type': 'application/json' }), ...headers },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
}

let made = 0;

/** A tenant for one test; its id. */
async function create(fields: object = {}): Promise<string> {
  const company_name = `Company ${String(++made)}`;
  const body = { company_name, email: 'office@example.com', ...fields };
  const answer = await ask('POST', '', { body });
  expect(answer.status, answer.text).toBe(201);
  return (answer.json as { tenant: string }).tenant;
}

const refused = (answer: WireAnswer) => {
  const { error } = answer.json as {
    error: { code: string; message: string; details?: { field: string }[] };
  };
  return [answer.status, error.code, error.message];
};

describe('POST /api/provisioning/tenants', () => {
  test('makes a tenant of the token’s partner, in production, without an API key', async () => {
    const company = {
      company_name: 'Example Corp',
      email: 'admin@example.com',
      phone_number: '+1234567890',
      industry: 'Technology',
    };
    const answer = await ask('POST', '', { body: company });
    expect(answer.status).toBe(201);
    expect(answer.headers.etag).toBe('"1"');
    expect(answer.json).toEqual({
      tenant: expect.stringMatching(uuid) as string,
      ...company,
      created_at: expect.stringMatching(time) as string,
      updated_at: expect.stringMatching(time) as string,
    });
    const { tenant: id } = answer.json as { tenant: string };
    const { tenant } = await gateway.graphql<{ tenant: unknown }>(
      `query ($id: ID!) { tenant(id: $id) { partner environment status isolation
        database { databaseName } apiKeys { id } } }`,
      { id },
    );
    expect(tenant).toEqual({
      partner: 'acme',
      environment: 'PRODUCTION',
      status: 'ACTIVE',
      isolation: 'DATABASE',
      database: { databaseName: `car_${id.replaceAll('-', '_')}` },
      apiKeys: [],
    });
    expect(refused(await ask('POST', '', { body: company }))).toEqual([
      409,
      'CONFLICT',
      "Tenant with name 'Example Corp' already exists",
    ]);
    // Another partner's names are its own.
    expect((await ask('POST', '', { body: company, headers: other })).status).toBe(201);
  });

  const email = 'a@example.com';
  test.each<[object, string, string[]]>([
    [{}, 'Company name is required', ['company_name', 'email']],
    [{ email }, 'Company name is required', ['company_name']],
    [{ company_name: '', email }, 'Company name is required', ['company_name']],
    [{ company_name: ' ', email }, 'Company name is required', ['company_name']],
    [{ company_name: null, email }, 'Company name is required', ['company_name']],
    [{ company_name: 'x' }, 'Invalid email address', ['email']],
    [{ company_name: 'x', email: 'nobody' }, 'Invalid email address', ['email']],
    [{ company_name: 'x', email: '' }, 'Invalid email address', ['email']],
    [
      { company_name: 'x', email, phone_number: 'none' },
      'Invalid phone_number: phone_number must be digits, with an optional leading "+" and spaces, parentheses, dots, slashes or hyphens',
      ['phone_number'],
    ],
    [
      { company_name: 'n'.repeat(256), email },
      'Invalid company_name: String should have at most 255 characters',
      ['company_name'],
    ],
    [
      { company_name: 'x', email, industry: '' },
      'Invalid industry: industry must have 1 to 255 characters',
      ['industry'],
    ],
  ])('refuses %j', async (body, message, fields) => {
    const answer = await ask('POST', '', { body });
    expect(refused(answer)).toEqual([400, 'VALIDATION_ERROR', message]);
    const { error } = answer.json as { error: { details: { field: string }[] } };
    expect(error.details.map(({ field }) => field)).toEqual(fields);
  });

  test('answers 202 when it is not to be waited for', async () => {
    const headers = { ...admin, Prefer: 'respond-async' };
    const body = { company_name: 'Later', email };
    const answer = await ask('POST', '', { body, headers });
    expect(answer.status).toBe(202);
    expect(answer.headers.location).toMatch(/^\/api\/operations\//);
  });
});

describe('GET /api/provisioning/tenants', () => {
  test('lists the partner’s own, page by page, without deleted ones', async () => {
    const headers = await bearer({ roles: ['partner-admin'], partner: 'lists' });
    const ids: string[] = [];
    for (const name of ['L1', 'L2', 'L3']) {
      const body = { company_name: name, email: 'l@example.com' };
      const { json } = await ask('POST', '', { body, headers });
      ids.push((json as { tenant: string }).tenant);
    }
    await ask('DELETE', `/${ids[1]!}`, { headers });
    const first = await ask('GET', '?limit=1', { headers });
    expect(first.json).toMatchObject({
      tenants: [{ tenant: ids[0], company_name: 'L1' }],
      pagination: { page: 1, limit: 1, total: 2, pages: 2 },
    });
    expect(first.headers['link']).toContain(`<${path}?page=2&limit=1>; rel="next"`);
    const second = await ask('GET', '?limit=1&page=2', { headers });
    expect(second.json).toMatchObject({ tenants: [{ tenant: ids[2] }] });
    expect((await ask('GET', '?limit=0', { headers })).status).toBe(400);
  });
});

describe('/api/provisioning/tenants/:id', () => {
  test('GET shows one with its version; after DELETE it is not there, for anything', async () => {
    const id = await create();
    const found = await ask('GET', `/${id}`, { headers: viewer });
    expect(found).toMatchObject({ status: 200, json: { tenant: id } });
    expect(found.headers.etag).toBe('"1"');
    const gone = await ask('DELETE', `/${id}`);
    expect([gone.status, gone.text]).toEqual([204, '']);
    for (const method of ['GET', 'DELETE', 'PATCH', 'PUT']) {
      const body = { company_name: 'x', email: 'x@example.com' };
      const takesBody = method.startsWith('P');
      const answer = await ask(method, `/${id}`, takesBody ? { body } : {});
      expect(refused(answer).slice(0, 2), method).toEqual([404, 'NOT_FOUND']);
    }
  });

  test('PATCH changes what is there, clears what is null, and leaves the rest', async () => {
    const id = await create({ phone_number: '123', industry: 'Mills' });
    const changed = await ask('PATCH', `/${id}`, {
      body: { company_name: 'Renamed', phone_number: null },
    });
    expect(changed.status, changed.text).toBe(200);
    expect(changed.headers.etag).toBe('"2"');
    expect(changed.json).toMatchObject({
      company_name: 'Renamed',
      phone_number: null,
      industry: 'Mills',
      email: 'office@example.com',
    });
    const bad = await ask('PATCH', `/${id}`, { body: { email: null } });
    expect(refused(bad)).toEqual([400, 'VALIDATION_ERROR', 'Invalid email address']);
    const taken = await ask('PATCH', `/${await create()}`, { body: { company_name: 'Renamed' } });
    expect(refused(taken)).toEqual([409, 'CONFLICT', "Tenant with name 'Renamed' already exists"]);
  });

  test('PUT replaces: what is absent is cleared', async () => {
    const id = await create({ phone_number: '123', industry: 'Mills' });
    const body = { company_name: 'Replaced', email: 'new@example.com' };
    const replaced = await ask('PUT', `/${id}`, { body });
    expect(replaced.json).toMatchObject({ ...body, phone_number: null, industry: null });
    const partial = await ask('PUT', `/${id}`, { body: { email: 'new@example.com' } });
    expect(refused(partial)).toEqual([400, 'VALIDATION_ERROR', 'Company name is required']);
  });

  test.each(['PATCH', 'PUT', 'DELETE'])('%s honours If-Match', async (method) => {
    const id = await create();
    const body = { company_name: `If-Match ${method}`, email: 'm@example.com' };
    const send = (tag: string) =>
      ask(method, `/${id}`, {
        headers: { ...admin, 'If-Match': tag },
        ...(method === 'DELETE' ? {} : { body }),
      });
    for (const tag of ['"2"', 'W/"1"', '1', '""', '"3", "4"']) {
      expect(refused(await send(tag))).toEqual([
        412,
        'VERSION_MISMATCH',
        'Another version is there by now',
      ]);
    }
    expect((await send('"7", "1"')).status).toBeLessThan(300);
    if (method !== 'DELETE') {
      expect((await send('"1"')).status).toBe(412);
      expect((await send('*')).status).toBe(200);
    }
  });

  test('of changes at once to one version, one is made', async () => {
    const id = await create();
    const answers = await Promise.all(
      Array.from({ length: 6 }, (_, index) =>
        ask('PATCH', `/${id}`, {
          body: { industry: `Industry ${String(index)}` },
          headers: { ...admin, 'If-Match': '"1"' },
        }),
      ),
    );
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 412, 412, 412, 412, 412]);
  });

  test.each(['GET', 'PATCH', 'PUT', 'DELETE'])(
    '%s of another partner’s tenant is 404, and changes nothing',
    async (method) => {
      const id = await create();
      const body = { company_name: 'Stolen', email: 's@example.com' };
      const answer = await ask(method, `/${id}`, {
        headers: other,
        ...(method.startsWith('P') ? { body } : {}),
      });
      expect(refused(answer).slice(0, 2)).toEqual([404, 'NOT_FOUND']);
      expect((await ask('GET', `/${id}`)).headers.etag).toBe('"1"');
    },
  );

  test('a protected tenant stays', async () => {
    const id = await create();
    await gateway.graphql(
      `mutation { updateTenant(input: { id: "${id}", deletionProtection: true }) { tenant { id } } }`,
    );
    expect(refused(await ask('DELETE', `/${id}`)).slice(0, 2)).toEqual([409, 'PROTECTED']);
  });
});

describe('who may', () => {
  const body = { company_name: 'Whoever', email: 'w@example.com' };
  const routes: readonly (readonly [method: string, at: string, permission: string])[] = [
    ['POST', '', 'tenant:create'],
    ['GET', '', 'tenant:read'],
    ['GET', '/nobody', 'tenant:read'],
    ['PATCH', '/nobody', 'tenant:update'],
    ['PUT', '/nobody', 'tenant:update'],
    ['DELETE', '/nobody', 'tenant:delete'],
  ];
  const send = (method: string, at: string, headers: Record<string, string>) =>
    ask(method, at, { headers, ...(method.startsWith('P') ? { body } : {}) });

  test.each(routes)('%s %s: only with a token, whoever asks', async (method, at) => {
    const { apiKey } = await makeTenant(gateway, { name: 'Has a key' });
    const callers: Record<string, string>[] = [
      {},
      { 'X-API-Key': apiKey! },
      { Authorization: `Bearer ${apiKey!}` },
      { Authorization: 'Bearer nobody' },
      await bearer({ roles: ['partner-admin'], exp: 1 }),
    ];
    for (const headers of callers) {
      const answer = await send(method, at, headers);
      expect(refused(answer).slice(0, 2)).toEqual([401, 'UNAUTHENTICATED']);
      expect(answer.headers['www-authenticate']).toMatch(/^Bearer/);
    }
  });

  test.each(routes)('%s %s: %s is needed', async (method, at, permission) => {
    const lacking = [{ roles: [] }, { roles: ['unknown'] }];
    if (permission !== 'tenant:read') lacking.push({ roles: ['partner-viewer'] });
    for (const claims of lacking) {
      const answer = await send(method, at, await bearer({ ...claims, partner: 'acme' }));
      expect(refused(answer).slice(0, 2), answer.text).toEqual([403, 'FORBIDDEN']);
    }
  });

  test.each(routes)('%s %s: %s alone will do', async (method, at, permission) => {
    const id = await create();
    const headers = await bearer({ permissions: [permission], partner: 'acme' });
    const answer = await ask(method, at === '' ? '' : `/${id}`, {
      headers,
      ...(method.startsWith('P') ? { body: { ...body, company_name: `Permitted ${method}` } } : {}),
    });
    expect(answer.status, answer.text).toBeLessThan(300);
  });
});
