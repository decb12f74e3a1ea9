import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { createBatch, endedBatch, findBatch, schemas } from './batches.ts';
import { scriptFailpoints } from './failpoints.ts';
import { createTenant } from './tenants.ts';
import { expectNothingLeft, tracesOf } from './traces.ts';

let world: World;
let gateway: TestGateway;
const failpoints = scriptFailpoints();
const key = expect.stringMatching(/^tk_/) as string;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({ failpoints });
});
afterAll(() => world.close());
beforeEach(() => {
  failpoints.clear();
});

describe('Mutation.createTenantsBatch', () => {
  test('makes each tenant, and answers in the order of the request', async () => {
    const tenants = [
      ...schemas('made', 4),
      { name: 'made 4', slug: 'made-4', isolation: 'DATABASE' },
    ];
    const { batch, userErrors } = await createBatch(gateway, { tenants });
    expect(userErrors).toEqual([]);
    expect(batch).toMatchObject({
      status: 'SUCCEEDED',
      atomic: false,
      summary: { totalRequested: 5, successful: 5, failed: 0 },
    });
    expect(batch!.results).toEqual(
      tenants.map(({ name, slug }, index) => ({
        index,
        success: true,
        rolledBack: false,
        tenant: {
          id: expect.any(String) as string,
          number: expect.any(Number) as number,
          slug,
          name,
          status: 'ACTIVE',
        },
        operation: { id: expect.any(String) as string, status: 'SUCCEEDED' },
        apiKey: key,
        userErrors: [],
      })),
    );
    for (const { operation } of batch!.results) {
      expect(await tracesOf(world, operation!.id)).toMatchObject({
        status: 'ACTIVE',
        apiKeys: 1,
        openJobs: 0,
        secrets: null,
      });
    }
  });

  test('Query.batch tells the same, but for the keys', async () => {
    const { batch } = await createBatch(gateway, { tenants: schemas('told', 2) });
    const found = await findBatch(gateway, batch!.id);
    expect(found).toEqual({
      ...batch,
      results: batch!.results.map((result) => ({ ...result, apiKey: null })),
    });
    const { batches, operations } = await gateway.graphql<{
      batches: { nodes: { id: string }[] };
      operations: { totalCount: number; nodes: { batch: { id: string } }[] };
    }>(
      `query ($id: ID!) {
        batches(first: 1) { nodes { id } }
        operations(filter: { batchId: $id }) { totalCount nodes { batch { id } } }
      }`,
      { id: batch!.id },
    );
    expect(batches.nodes).toEqual([{ id: batch!.id }]);
    expect(operations).toEqual({
      totalCount: 2,
      nodes: [{ batch: { id: batch!.id } }, { batch: { id: batch!.id } }],
    });
  });
});

describe('items that cannot be made', () => {
  const good = { name: 'good', isolation: 'SCHEMA' };
  const items = [
    { ...good, slug: 'first-one', domain: 'first.example.com' },
    { ...good, slug: 'No Slug', email: 'nobody' },
    { ...good, slug: 'first-one' },
    { ...good, slug: 'third-one', domain: 'FIRST.example.com' },
    { ...good, slug: 'taken-one' },
    { ...good, slug: 'fifth-one', schemaName: 'tenant_first_one' },
    { ...good, slug: 'keyed-one', idempotencyKey: 'k', wait: true },
    { ...good, name: 'unique one', uniqueName: true },
    { ...good, name: 'unique one', uniqueName: true },
  ];
  const expected: [index: number, code: string, field: string][] = [
    [1, 'INVALID', 'slug'],
    [1, 'INVALID', 'email'],
    [2, 'TAKEN', 'slug'],
    [2, 'TAKEN', 'schemaName'],
    [3, 'TAKEN', 'domain'],
    [4, 'TAKEN', 'slug'],
    [4, 'TAKEN', 'schemaName'],
    [5, 'TAKEN', 'schemaName'],
    [6, 'INVALID', 'idempotencyKey'],
    [6, 'INVALID', 'wait'],
    [8, 'TAKEN', 'name'],
  ];

  beforeAll(async () => {
    await createTenant(gateway, { ...good, slug: 'taken-one' });
  });

  test('atomic: all problems are told, and nothing is recorded', async () => {
    const before = await counts();
    const { batch, userErrors } = await createBatch(gateway, { tenants: items, atomic: true });
    expect(batch).toBeNull();
    expect(userErrors.map(({ code, field }) => [Number(field![2]), code, field![3]])).toEqual(
      expected,
    );
    expect(await counts()).toEqual(before);
  });

  test('each fails alone, the first of two stands, and a later look tells the same', async () => {
    const { batch } = await createBatch(gateway, { tenants: items });
    expect(batch).toMatchObject({
      status: 'PARTIALLY_FAILED',
      summary: { totalRequested: 9, successful: 2, failed: 7 },
    });
    const made = batch!.results.filter(({ success }) => success);
    expect(made.map(({ index }) => index)).toEqual([0, 7]);
    const problems = batch!.results.flatMap(({ index, userErrors }) =>
      userErrors.map(({ code, field }) => {
        expect(field!.slice(0, 3)).toEqual(['input', 'tenants', String(index)]);
        return [index, code, field![3]];
      }),
    );
    expect(problems).toEqual(expected);
    const found = await findBatch(gateway, batch!.id);
    expect(found!.results.map(({ userErrors }) => userErrors)).toEqual(
      batch!.results.map(({ userErrors }) => userErrors),
    );
  });

  test('a batch of nothing else has failed', async () => {
    const { batch, userErrors } = await createBatch(gateway, {
      tenants: [{ name: '' }, { ...good, slug: 'taken-one' }],
      idempotencyKey: 'nothing good',
    });
    expect(userErrors).toEqual([]);
    expect(batch).toMatchObject({ status: 'FAILED', summary: { successful: 0, failed: 2 } });
    expect(batch!.finishedAt).not.toBeNull();
    // Of which nothing came, the key is free again.
    const again = await createBatch(gateway, {
      tenants: schemas('good-now', 1),
      idempotencyKey: 'nothing good',
    });
    expect(again.batch).toMatchObject({ status: 'SUCCEEDED' });
  });

  test.each([
    ['no tenants', 0, 'INVALID'],
    ['51', 51, 'LIMIT_EXCEEDED'],
    ['10,000', 10_000, 'LIMIT_EXCEEDED'],
  ])('a batch of %s is refused as a whole', async (_what, count, code) => {
    const before = await counts();
    const { batch, userErrors } = await createBatch(gateway, { tenants: schemas('x', count) });
    expect(batch).toBeNull();
    expect(userErrors).toMatchObject([{ code, field: ['input', 'tenants'] }]);
    expect(await counts()).toEqual(before);
  });

  test.each([
    ['null', null],
    ['a list with null', [null]],
    ['a number', [1]],
    ['a nested list', [[{ name: 'a' }]]],
    ['a text', 'all'],
  ])('tenants as %s is no valid request', async (_what, tenants) => {
    const answer = await gateway.post('/graphql', {
      query:
        'mutation ($i: CreateTenantsBatchInput!) { createTenantsBatch(input: $i) { batch { id } } }',
      variables: { i: { tenants } },
    });
    const { errors } = answer.json as { errors: { extensions: { code: string } }[] };
    expect(errors[0]!.extensions.code).toBe('BAD_USER_INPUT');
  });

  test('a derived slug that is in use, or twice in the batch, gets an ending', async () => {
    const tenants = [
      { name: 'Taken One', isolation: 'SCHEMA' },
      { name: 'Same' },
      { name: 'Same' },
    ];
    const { batch } = await createBatch(gateway, {
      tenants: tenants.map((tenant) => ({ ...tenant, isolation: 'SCHEMA' })),
    });
    const slugs = batch!.results.map(({ tenant }) => tenant!.slug);
    expect(slugs).toEqual([
      expect.stringMatching(/^taken-one-.+/),
      'same',
      expect.stringMatching(/^same-.+/),
    ]);
  });
});

describe('an item that fails on the way', () => {
  test('leaves the others alone', async () => {
    failpoints.fail('verify_connection:before', 1);
    const { batch } = await createBatch(gateway, { tenants: schemas('alone', 3) });
    expect(batch).toMatchObject({
      status: 'PARTIALLY_FAILED',
      summary: { successful: 2, failed: 1 },
    });
    const failed = batch!.results.find(({ success }) => !success)!;
    expect(failed).toMatchObject({
      rolledBack: false,
      tenant: null,
      apiKey: null,
      userErrors: [{ code: 'PROVISIONING_FAILED' }],
    });
    await expectNothingLeft(world, gateway, failed.operation!.id);
  });

  test('leaves alone those that are activated in one transaction with it', async () => {
    await world.query(
      `CREATE FUNCTION control_plane.refuse() RETURNS trigger LANGUAGE plpgsql AS
       $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
       CREATE TRIGGER refuse BEFORE UPDATE ON control_plane.tenants FOR EACH ROW
         WHEN (NEW.status = 'ACTIVE' AND NEW.slug = 'lot-1') EXECUTE FUNCTION control_plane.refuse()`,
    );
    // They come to their activation at once.
    const all = Promise.withResolvers<undefined>();
    let count = 0;
    failpoints.at('activate:before', () => {
      count += 1;
      if (count === 4) all.resolve(undefined);
      return all.promise;
    });
    const { batch } = await createBatch(gateway, { tenants: schemas('lot', 4) });
    failpoints.clear();
    await world.query('DROP FUNCTION control_plane.refuse() CASCADE');
    expect(batch?.results.map(({ success }) => success)).toEqual([true, false, true, true]);
    const failed = batch!.results[1]!;
    expect(failed.userErrors).toMatchObject([{ code: 'PROVISIONING_FAILED' }]);
    await expectNothingLeft(world, gateway, failed.operation!.id);
    // One transaction for the three, had it not been for the fourth: each was by itself.
    const audits = await world.query(
      `SELECT FROM control_plane.audit_log WHERE action = 'activateTenant'
       AND tenant_id = ANY (SELECT tenant_id FROM control_plane.operations WHERE batch_id = $1)`,
      [batch!.id],
    );
    expect(audits).toHaveLength(3);
  });

  test('atomic: takes all others with it, also those that were made', async () => {
    // Each of the others is ready by the time that the last one fails.
    let count = 0;
    failpoints.at('verify_connection:before', () => {
      count += 1;
      return count < 7 ? Promise.resolve() : Promise.reject(new Error('failpoint'));
    });
    const tenants = schemas('together', 7);
    const input = { tenants, atomic: true, idempotencyKey: 'together' };
    const { batch } = await createBatch(gateway, input);
    failpoints.clear();
    expect(batch).toMatchObject({
      status: 'ROLLED_BACK',
      summary: { totalRequested: 7, successful: 0, failed: 7 },
    });
    expect(batch!.results.filter(({ rolledBack }) => rolledBack)).toHaveLength(6);
    for (const { apiKey, operation, tenant, userErrors } of batch!.results) {
      expect({ apiKey, tenant }).toEqual({ apiKey: null, tenant: null });
      expect(userErrors).toMatchObject([{ code: 'PROVISIONING_FAILED' }]);
      await expectNothingLeft(world, gateway, operation!.id);
    }
    // Names and key are free again.
    expect((await createBatch(gateway, input)).batch).toMatchObject({ status: 'SUCCEEDED' });
  });

  test('atomic: what had not begun is cancelled', async () => {
    failpoints.fail('create_role:before', 1);
    const { batch } = await createBatch(gateway, {
      tenants: schemas('first-fails', 12),
      atomic: true,
    });
    expect(batch).toMatchObject({ status: 'ROLLED_BACK' });
    const statuses = batch!.results.map(({ operation }) => operation!.status);
    expect(statuses).toContain('CANCELLED');
    expect(new Set(statuses)).toEqual(new Set(['CANCELLED', 'COMPENSATED']));
    const { operation } = batch!.results.at(-1)!;
    expect(await tracesOf(world, operation!.id)).toMatchObject({
      places: [],
      roles: [],
      status: 'FAILED',
      databaseStatus: 'DROPPED',
      operationStatus: 'CANCELLED',
      openJobs: 0,
    });
  });
});

describe('wait: false', () => {
  test('answers at once, and the batch goes on', async () => {
    const held = failpoints.hold('create_schema:before');
    const input = { tenants: schemas('later', 7), wait: false, idempotencyKey: 'later' };
    const { batch } = await createBatch(gateway, input);
    expect(batch).toMatchObject({ status: 'RUNNING', finishedAt: null });
    await held.reached;
    // No more than BATCH_CONCURRENCY at once; the rest waits.
    await expect
      .poll(async () => await statusesOf(batch!.id))
      .toEqual(['QUEUED', 'QUEUED', 'RUNNING', 'RUNNING', 'RUNNING', 'RUNNING', 'RUNNING']);
    // A creation by itself does not wait behind it.
    const single = await createTenant(gateway, { name: 'between', isolation: 'DATABASE' });
    expect(single.tenant).toMatchObject({ status: 'ACTIVE' });
    expect(await findBatch(gateway, batch!.id)).toMatchObject({
      status: 'RUNNING',
      results: expect.arrayContaining([
        expect.objectContaining({ index: 6, success: false, apiKey: null, userErrors: [] }),
      ]) as unknown,
    });
    held.release();
    expect(await endedBatch(gateway, batch!.id)).toMatchObject({ status: 'SUCCEEDED' });
    // The creator asks again, with the same key, and gets the keys.
    const replayed = await createBatch(gateway, input);
    expect(replayed.batch!.id).toBe(batch!.id);
    expect(replayed.batch!.results.map(({ apiKey }) => apiKey)).toEqual(Array(7).fill(key));
  });
});

describe('BATCH_PROCESSING_TIMEOUT', () => {
  test('cancels what has not begun by then, and nothing else', async () => {
    const hasty = await world.start({
      failpoints,
      settings: { BATCH_PROCESSING_TIMEOUT: '1', BATCH_CONCURRENCY: '2' },
    });
    await gateway.close();
    const held = failpoints.hold('create_role:before');
    const answer = createBatch(hasty, { tenants: schemas('hasty', 4) });
    await held.reached;
    await expect
      .poll(
        async () =>
          (
            await world.query<{ count: number }>(
              `SELECT count(*)::int FROM control_plane.operations WHERE status = 'CANCELLED'
           AND error_message LIKE 'Cancelled: it had not begun%'`,
            )
          )[0]!.count,
        { timeout: 10_000 },
      )
      .toBe(2);
    held.release();
    const { batch } = await answer;
    expect(batch).toMatchObject({
      status: 'PARTIALLY_FAILED',
      summary: { successful: 2, failed: 2 },
    });
    expect(batch!.results.map(({ operation }) => operation!.status)).toEqual([
      'SUCCEEDED',
      'SUCCEEDED',
      'CANCELLED',
      'CANCELLED',
    ]);
    expect(batch!.results[3]!.userErrors[0]!.message).toContain('1 s');
    await hasty.close();
    gateway = await world.start({ failpoints });
  });
});

describe('RATE_LIMIT_BATCH_TENANTS_PER_MINUTE', () => {
  test('counts each tenant, against a budget of its own', async () => {
    const limited = await world.start({ settings: { RATE_LIMIT_BATCH_TENANTS_PER_MINUTE: '3' } });
    const input = { tenants: schemas('counted', 2), idempotencyKey: 'counted' };
    const post = (tenants: object[]) =>
      limited.post('/graphql', {
        query:
          'mutation ($i: CreateTenantsBatchInput!) { createTenantsBatch(input: $i) { batch { status } } }',
        variables: { i: { tenants } },
      });
    expect((await createBatch(limited, input)).batch).toMatchObject({ status: 'SUCCEEDED' });
    expect((await createBatch(limited, input)).batch).toMatchObject({ status: 'SUCCEEDED' });
    const over = await post(schemas('over', 2));
    expect(over.status).toBe(429);
    expect(Number(over.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(over.headers.get('ratelimit-policy')).toBe('"batch-tenants";q=3;w=60');
    const single = await createTenant(limited, { name: 'not counted', isolation: 'SCHEMA' });
    expect(single.tenant).toMatchObject({ status: 'ACTIVE' });
    await limited.close();
  });
});

async function counts(): Promise<object> {
  const [row] = await world.query(
    `SELECT (SELECT count(*) FROM control_plane.tenants) AS tenants,
       (SELECT count(*) FROM control_plane.batches) AS batches,
       (SELECT count(*) FROM control_plane.audit_log) AS audit`,
  );
  return row!;
}

async function statusesOf(batchId: string): Promise<string[]> {
  const rows = await world.query<{ status: string }>(
    'SELECT status FROM control_plane.operations WHERE batch_id = $1 ORDER BY status',
    [batchId],
  );
  return rows.map(({ status }) => status);
}
