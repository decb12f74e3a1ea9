import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { allSteps, scriptFailpoints, undoneSteps } from '../provisioning/failpoints.ts';
import { createTenant, makeTenant, type Made } from '../provisioning/tenants.ts';

let world: World;
let gateway: TestGateway;
let made: Made;
let failedId: string;
const failpoints = scriptFailpoints();

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({ failpoints });
  made = await makeTenant(gateway, { name: 'made' });
  failpoints.fail('verify_connection:before');
  failedId = (await createTenant(gateway, { name: 'failed' })).operation!.id;
  failpoints.clear();
});
afterAll(() => world.close());

const unknown = '00000000-0000-4000-8000-000000000000';

interface Found {
  readonly totalCount: number;
  readonly nodes: readonly { readonly id: string }[];
}
async function list(filter: object | null): Promise<string[]> {
  const { operations } = await gateway.graphql<{ operations: Found }>(
    'query ($filter: OperationFilter) { operations(filter: $filter) { totalCount nodes { id } } }',
    { filter },
  );
  expect(operations.totalCount).toBe(operations.nodes.length);
  return operations.nodes.map(({ id }) => id);
}

describe('Query.operation', () => {
  const document = `query ($id: ID!) { operation(id: $id) {
    id kind status percent tenant { name status } error { code message field }
    createdAt startedAt finishedAt durationMs
    steps { name status attempts startedAt finishedAt durationMs }
  } }`;
  const moment = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as string;
  const step = (name: string, status: string): object => ({
    name,
    status,
    attempts: 1,
    startedAt: moment,
    finishedAt: moment,
    durationMs: expect.any(Number) as number,
  });

  test('one that succeeded', async () => {
    const { operation } = await gateway.graphql(document, { id: made.operation.id });
    expect(operation).toEqual({
      id: made.operation.id,
      kind: 'CREATE',
      status: 'SUCCEEDED',
      percent: 100,
      tenant: { name: 'made', status: 'ACTIVE' },
      error: null,
      createdAt: moment,
      startedAt: moment,
      finishedAt: moment,
      durationMs: expect.any(Number) as number,
      steps: allSteps.map((name) => step(name, 'SUCCEEDED')),
    });
  });

  test('one that was undone', async () => {
    const { operation } = await gateway.graphql<{ operation: Record<string, unknown> }>(document, {
      id: failedId,
    });
    expect(operation).toMatchObject({
      status: 'COMPENSATED',
      tenant: { name: 'failed', status: 'FAILED' },
      error: {
        code: 'PROVISIONING_FAILED',
        message: 'Step verify_connection failed',
        field: null,
      },
    });
    expect(operation['percent']).toBeLessThan(100);
    const undone = undoneSteps('verify_connection');
    const run = allSteps.slice(0, allSteps.indexOf('verify_connection') + 1);
    const status = (name: string): string =>
      undone.includes(name) ? 'COMPENSATED' : name === 'verify_connection' ? 'FAILED' : 'SUCCEEDED';
    expect(operation['steps']).toMatchObject(run.map((name) => ({ name, status: status(name) })));
  });

  test.for([unknown, 'x', '', '\0', '1', `${unknown}0`, '\ud800', "'"])(
    'is null for an unknown id: %j',
    async (id) => {
      expect(await gateway.graphql(document, { id })).toEqual({ operation: null });
    },
  );
});

describe('Query.operations', () => {
  test.for<[filter: () => object | null, found: () => string[]]>([
    [() => null, () => [failedId, made.operation.id]],
    [() => ({}), () => [failedId, made.operation.id]],
    [() => ({ kind: ['CREATE'] }), () => [failedId, made.operation.id]],
    [() => ({ kind: ['DELETE', 'PURGE'] }), () => []],
    [() => ({ kind: [] }), () => []],
    [() => ({ status: ['SUCCEEDED'] }), () => [made.operation.id]],
    [() => ({ status: ['COMPENSATED', 'FAILED'] }), () => [failedId]],
    [() => ({ tenantId: made.tenant.id }), () => [made.operation.id]],
    [() => ({ tenantId: made.tenant.id.toUpperCase() }), () => [made.operation.id]],
    [() => ({ tenantId: made.tenant.id, status: ['COMPENSATED'] }), () => []],
    [() => ({ tenantId: unknown }), () => []],
    [() => ({ tenantId: 'x' }), () => []],
    [() => ({ tenantId: '\0' }), () => []],
    [() => ({ kind: null, status: null, tenantId: null }), () => [failedId, made.operation.id]],
  ])('filter (%#), newest first', async ([filter, found]) => {
    expect(await list(filter())).toEqual(found());
  });

  test('pages forward and backward', async () => {
    interface Paged extends Found {
      readonly pageInfo: { readonly endCursor: string; readonly hasNextPage: boolean };
    }
    const page = async (args: string): Promise<Paged> => {
      const { operations } = await gateway.graphql<{ operations: Paged }>(
        `{ operations(${args}) { totalCount nodes { id } pageInfo { endCursor hasNextPage } } }`,
      );
      return operations;
    };
    const first = await page('first: 1');
    expect(first).toMatchObject({ totalCount: 2, nodes: [{ id: failedId }] });
    expect(first.pageInfo.hasNextPage).toBe(true);
    const second = await page(`first: 1, after: "${first.pageInfo.endCursor}"`);
    expect(second).toMatchObject({ totalCount: 2, nodes: [{ id: made.operation.id }] });
    expect(second.pageInfo.hasNextPage).toBe(false);
    const back = await page(`last: 1, before: "${second.pageInfo.endCursor}"`);
    expect(back.nodes).toEqual([{ id: failedId }]);
  });
});

test('Tenant.operations lists those of the tenant alone', async () => {
  const { tenant } = await gateway.graphql(
    `query ($id: ID!) { tenant(id: $id) {
      operations(first: 1) { totalCount nodes { id } pageInfo { hasNextPage } }
    } }`,
    { id: made.tenant.id },
  );
  expect(tenant).toEqual({
    operations: {
      totalCount: 1,
      nodes: [{ id: made.operation.id }],
      pageInfo: { hasNextPage: false },
    },
  });
});
