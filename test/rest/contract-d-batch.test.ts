import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type Answer, type TestGateway, type World } from '../harness.ts';
import { scriptFailpoints } from '../provisioning/failpoints.ts';
import { bearer, startWithTokens, tokenSettings } from '../tokens.ts';

const path = '/api/provisioning/tenants/batch';
const failpoints = scriptFailpoints();
let world: World;
let gateway: TestGateway;
let admin: Record<string, string>;
let other: Record<string, string>;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({
    failpoints,
    settings: { ...tokenSettings, MAX_TENANTS_PER_BATCH: '5' },
  });
  admin = await bearer({ roles: ['partner-admin'], partner: 'd-batch' });
  other = await bearer({ roles: ['partner-admin'], partner: 'd-batch-other' });
});
afterEach(() => failpoints.clear());
afterAll(() => world.close());

const company = (name: string, more: object = {}): object => ({
  company_name: name,
  email: 'admin@example.com',
  ...more,
});

interface Body {
  readonly success: boolean;
  readonly message: string;
  readonly results: readonly Record<string, unknown>[];
  readonly summary: Record<string, number>;
}

const bodyOf = ({ json }: Answer): Body => json as Body;

function post(
  tenants: unknown,
  more: object = {},
  headers: Record<string, string> = admin,
): Promise<Answer> {
  return gateway.post(path, { tenants, ...more }, headers);
}

async function named(name: string): Promise<{ status: string; partner: string }[]> {
  return world.query('SELECT status, partner FROM control_plane.tenants WHERE name = $1', [name]);
}

describe('POST /api/provisioning/tenants/batch', () => {
  test('201 when all were made: databases of the token’s partner, without API keys', async () => {
    const answer = await post([company('First'), company('Second', { industry: 'Law' })]);
    expect(answer.status, answer.text).toBe(201);
    const { message, results, success, summary } = bodyOf(answer);
    expect({ message, success }).toEqual({
      message: 'Batch tenant provisioning completed',
      success: true,
    });
    expect(results).toEqual([
      {
        status: 'success',
        tenant: expect.stringMatching(/^[0-9a-f-]{36}$/) as string,
        company_name: 'First',
        email: 'admin@example.com',
        phone_number: null,
        industry: null,
        created_at: expect.any(String) as string,
        updated_at: expect.any(String) as string,
      },
      expect.objectContaining({ status: 'success', company_name: 'Second', industry: 'Law' }),
    ]);
    expect(summary).toEqual({
      total_requested: 2,
      successful: 2,
      failed: 0,
      processing_time_ms: expect.any(Number) as number,
    });
    expect(answer.text).not.toContain('tk_');
    const rows = await world.query(
      `SELECT isolation, environment, partner, left(database_name, 4) AS named
       FROM control_plane.tenants JOIN control_plane.tenant_databases USING (isolation)
       WHERE id = tenant_id AND id = ANY ($1)`,
      [results.map(({ tenant }) => tenant)],
    );
    const expected = { isolation: 'DATABASE', environment: 'PRODUCTION', partner: 'd-batch' };
    expect(rows).toEqual([
      { ...expected, named: 'car_' },
      { ...expected, named: 'car_' },
    ]);
  });

  test('207 when some failed, each with its own message and in its own place', async () => {
    await post([company('Taken')]);
    const answer = await post([
      company('Good one'),
      company('Taken'),
      company('Bad address', { email: 'nobody' }),
      { email: 'admin@example.com' },
      company('Good one'),
    ]);
    expect(answer.status, answer.text).toBe(207);
    expect(bodyOf(answer)).toMatchObject({
      success: false,
      results: [
        { company_name: 'Good one', status: 'success' },
        {
          company_name: 'Taken',
          status: 'error',
          error: expect.stringContaining('already exists') as string,
        },
        { company_name: 'Bad address', status: 'error', error: 'Invalid email address' },
        { company_name: null, status: 'error', error: 'Company name is required' },
        {
          company_name: 'Good one',
          status: 'error',
          error: expect.stringContaining('already exists') as string,
        },
      ],
      summary: { total_requested: 5, successful: 1, failed: 4 },
    });
    expect(await named('Good one')).toHaveLength(1);
  });

  test('207 when all failed', async () => {
    const answer = await post([company('All bad', { email: '' })]);
    expect(answer.status).toBe(207);
    expect(bodyOf(answer).summary).toMatchObject({ successful: 0, failed: 1 });
  });

  test.for([
    ['400 when one is invalid', 400, company('X', { email: 'nobody' }), 'Invalid email address'],
    ['409 when one is taken', 409, company('In use'), "Tenant with name 'In use' already exists"],
  ] as const)('atomic: %s, and nothing is made', async ([, status, bad, error]) => {
    await post([company('In use')]);
    const answer = await post([company('Atomic good'), bad], { atomic: true });
    expect(answer.status, answer.text).toBe(status);
    expect(bodyOf(answer)).toMatchObject({
      success: false,
      results: [
        { company_name: 'Atomic good', status: 'rolled_back' },
        { status: 'error', error },
      ],
      summary: { total_requested: 2, successful: 0, failed: 2 },
    });
    expect(await named('Atomic good')).toEqual([]);
  });

  test('atomic: 500 when one fails on the way, and nothing is left', async () => {
    failpoints.fail('verify_connection:before', 1);
    const answer = await post([company('Falls a'), company('Falls b')], { atomic: true });
    expect(answer.status, answer.text).toBe(500);
    expect(
      bodyOf(answer)
        .results.map(({ status }) => status)
        .sort(),
    ).toEqual(['error', 'rolled_back']);
    for (const name of ['Falls a', 'Falls b']) {
      expect(await named(name)).toEqual([{ status: 'FAILED', partner: 'd-batch' }]);
    }
    const { databases, roles } = await world.leftovers();
    failpoints.clear();
    const again = await post([company('Falls a'), company('Falls b')], { atomic: true });
    expect(again.status).toBe(201);
    expect(databases.length + roles.length).toBeGreaterThan(0); // those of the other tests alone
  });

  test.for([
    ['none', []],
    ['six, where five are allowed', Array.from({ length: 6 }, (_, index) => company(`N${index}`))],
    ['10,000', Array.from({ length: 10_000 }, (_, index) => company(`N${index}`))],
    ['null', null],
    ['a number', 7],
    ['a text', 'all'],
    ['an object', { 0: company('N') }],
    ['a list of numbers', [1, 2]],
    ['a list with null', [company('N'), null]],
    ['a nested list', [[company('N')]]],
  ] as const)('400 to %s', async ([, tenants]) => {
    const answer = await post(tenants);
    expect(answer.status, answer.text.slice(0, 200)).toBe(400);
    expect(answer.json).toHaveProperty('error.message');
    expect(await named('N')).toEqual([]);
  });

  test('no token: 401; a viewer: 403, whatever the body', async () => {
    const viewer = await bearer({ roles: ['partner-viewer'], partner: 'd-batch' });
    for (const tenants of [[company('Nobody')], 7]) {
      expect((await post(tenants, {}, {})).status).toBe(401);
      expect((await post(tenants, {}, viewer)).status).toBe(403);
    }
    expect(await named('Nobody')).toEqual([]);
  });

  test('a name of another partner is not in the way, and its batch is not seen', async () => {
    await post([company('Common')], {}, other);
    const answer = await post([company('Common')]);
    expect(answer.status).toBe(201);
    expect((await named('Common')).map(({ partner }) => partner).sort()).toEqual([
      'd-batch',
      'd-batch-other',
    ]);
    const accepted = await post([company('Followed')], {}, { ...admin, Prefer: 'respond-async' });
    const { id } = accepted.json as { id: string };
    expect((await gateway.get(`/api/batches/${id}`, other)).status).toBe(404);
    expect((await gateway.get(`/api/batches/${id}/events`, other)).status).toBe(404);
    expect((await gateway.get(`/api/batches/${id}`, admin)).status).toBe(200);
  });

  test('one key makes one batch, also on another instance', async () => {
    const second = await startWithTokens(world);
    const headers = { ...admin, 'Idempotency-Key': 'd-batch-once' };
    const tenants = [company('Once a'), company('Once b')];
    const [first, elsewhere] = await Promise.all([
      gateway.post(path, { tenants }, headers),
      second.post(path, { tenants }, headers),
    ]);
    expect(first.status, first.text).toBe(201);
    expect(elsewhere.json).toEqual(first.json);
    expect(await named('Once a')).toHaveLength(1);
    const mismatch = await gateway.post(path, { tenants, atomic: true }, headers);
    expect(mismatch.status).toBe(422);
    await second.close();
  });
});
