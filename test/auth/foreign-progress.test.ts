import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { progressDocument } from '../progress/watch.ts';
import { bearer, startWithTokens } from '../tokens.ts';

let world: World;
let gateway: TestGateway;
let owner: Record<string, string>;
let stranger: Record<string, string>;
let ids: { operationId: string; batchId: string; tenantId: string };

beforeAll(async () => {
  world = await createWorld();
  gateway = await startWithTokens(world);
  owner = await bearer({ roles: ['partner-admin'], partner: 'foreign-a' });
  stranger = await bearer({ roles: ['partner-admin'], partner: 'foreign-b' });
  const { json } = await gateway.post(
    '/graphql',
    {
      query: `mutation { createTenantsBatch(input: {
        tenants: [{ name: "Watched", isolation: SCHEMA }], idempotencyKey: "theirs" }) {
        batch { id results { tenant { id } operation { id } } } } }`,
    },
    owner,
  );
  const { batch } = (
    json as {
      data: {
        createTenantsBatch: {
          batch: { id: string; results: [{ tenant: { id: string }; operation: { id: string } }] };
        };
      };
    }
  ).data.createTenantsBatch;
  const [{ operation, tenant }] = batch.results;
  ids = { operationId: operation.id, batchId: batch.id, tenantId: tenant.id };
});
afterAll(() => world.close());

function watch(variables: object, who: Record<string, string>) {
  const headers = { ...who, Accept: 'text/event-stream' };
  return gateway.post('/graphql', { query: progressDocument, variables }, headers);
}

describe('Subscription.tenantProvisioningProgress of what is another partner’s', () => {
  test.for(['operationId', 'batchId', 'tenantId'] as const)('%s: NOT_FOUND', async (selector) => {
    const variables = { [selector]: ids[selector] };
    const own = await watch(variables, owner);
    expect(own.text).toContain(ids.operationId);
    const foreign = await watch(variables, stranger);
    expect(foreign.status).toBe(404);
    expect(foreign.text).toContain('"extensions":{"code":"NOT_FOUND"}');
    const unknown = await watch({ [selector]: crypto.randomUUID() }, stranger);
    expect(unknown.text).toBe(foreign.text);
  });

  test('idempotencyKey: it is not seen, and waited for as if it were nobody’s', async () => {
    const own = await watch({ idempotencyKey: 'theirs' }, owner);
    expect(own.text).toContain(ids.batchId);
    const response = await fetch(`${gateway.url}/graphql`, {
      method: 'POST',
      headers: { ...stranger, Accept: 'text/event-stream', 'Content-Type': 'application/json' },
      body: JSON.stringify({ query: progressDocument, variables: { idempotencyKey: 'theirs' } }),
    });
    const { json } = await gateway.post(
      '/graphql',
      {
        query: `mutation { createTenant(input: {
          name: "Own", isolation: SCHEMA, idempotencyKey: "theirs" }) { operation { id } } }`,
      },
      stranger,
    );
    const { operation } = (json as { data: { createTenant: { operation: { id: string } } } }).data
      .createTenant;
    const text = await response.text();
    expect(text).toContain(operation.id);
    expect(text).not.toContain(ids.batchId);
  });
});
