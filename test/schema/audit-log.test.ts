import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { makeTenant } from '../provisioning/tenants.ts';
import { bearer, tokenSettings } from '../tokens.ts';

let world: World;
let gateway: TestGateway;
let id: string;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({ settings: { ...tokenSettings, AUTH_MODE: 'open' } });
  const made = await makeTenant(gateway, { name: 'Audited', slug: 'audit-log' });
  id = made.tenant.id;
  await gateway.post(
    '/graphql',
    { query: `mutation { deleteTenant(input: { id: "${id}" }) { tenant { id } } }` },
    { 'X-Request-Id': 'the-deletion' },
  );
});
afterAll(() => world.close());

interface Entry {
  readonly id: string;
  readonly action: string;
}

interface Log {
  readonly nodes: readonly Entry[];
  readonly totalCount: number;
  readonly pageInfo: { readonly endCursor: string | null; readonly hasNextPage: boolean };
}

async function auditLog(variables: object): Promise<Log> {
  const { auditLog: log } = await gateway.graphql<{ auditLog: Log }>(
    `query ($first: Int, $after: String, $filter: AuditFilter) {
      auditLog(first: $first, after: $after, filter: $filter) {
        nodes { id at actor partner ipAddress action tenantId fromStatus toStatus outcome requestId details }
        totalCount pageInfo { endCursor hasNextPage } } }`,
    variables,
  );
  return log;
}

describe('Query.auditLog', () => {
  test('tells who did what, from which status to which, newest first', async () => {
    const { nodes, totalCount } = await auditLog({ filter: { tenantId: id } });
    const actor = 'local-operator';
    const common = { actor, partner: 'platform', tenantId: id, details: null };
    const byHim = { ...common, ipAddress: '127.0.0.1', outcome: 'ACCEPTED' };
    const byItself = { ...common, ipAddress: null, outcome: 'SUCCEEDED' };
    expect(totalCount).toBe(4);
    expect(nodes).toMatchObject([
      { ...byItself, action: 'markTenantDeleted', fromStatus: 'ACTIVE', toStatus: 'DELETED' },
      {
        ...byHim,
        action: 'deleteTenant',
        fromStatus: 'ACTIVE',
        toStatus: 'DELETED',
        requestId: 'the-deletion',
      },
      { ...byItself, action: 'activateTenant', fromStatus: 'PROVISIONING', toStatus: 'ACTIVE' },
      { ...byHim, action: 'createTenant', fromStatus: null, toStatus: 'PROVISIONING' },
    ]);
  });

  test('is read page by page', async () => {
    const all = await auditLog({});
    const read: Entry[] = [];
    let after: string | null = null;
    do {
      const page: Log = await auditLog({ first: 1, after });
      read.push(...page.nodes);
      after = page.pageInfo.hasNextPage ? page.pageInfo.endCursor : null;
    } while (after !== null);
    expect(read).toEqual(all.nodes);
  });

  test.each([
    [{ action: 'deleteTenant' }, 1],
    [{ action: 'unknown' }, 0],
    [{ actor: 'local-operator' }, 4],
    [{ actor: 'local' }, 0],
    [{ tenantId: '00000000-0000-4000-8000-000000000000' }, 0],
    [{ tenantId: 'no uuid' }, 0],
    [{ after: '2020-01-01T00:00:00Z' }, 4],
    [{ before: '2020-01-01T00:00:00Z' }, 0],
    [{ after: '2020-01-01T00:00:00Z', before: '2100-01-01T00:00:00Z', action: 'createTenant' }, 1],
  ])('%j', async (filter, count) => {
    expect(await auditLog({ filter })).toMatchObject({ totalCount: count });
  });

  test.each([[{ filter: { actor: '\0' } }], [{ after: 'no cursor' }], [{ first: 0 }]])(
    'refuses %j',
    async (variables) => {
      await expect(auditLog(variables)).rejects.toThrow('BAD_USER_INPUT');
    },
  );

  describe('who sees what', () => {
    let apiKey: string;
    beforeAll(async () => {
      const made = await makeTenant(gateway, { name: 'Keyed', slug: 'audit-key', partner: 'acme' });
      apiKey = made.apiKey!;
    });

    async function actionsFor(headers: Record<string, string>): Promise<unknown> {
      const query =
        '{ auditLog(filter: { action: "createTenant" }) { totalCount nodes { partner } } }';
      const { json } = await gateway.post('/graphql', { query }, headers);
      const { data, errors } = json as {
        data?: { auditLog: { totalCount: number; nodes: { partner: string }[] } | null };
        errors?: { extensions: { code: string } }[];
      };
      if (errors !== undefined) return errors.map(({ extensions }) => extensions.code);
      const partners = data?.auditLog?.nodes.map(({ partner }) => partner) ?? [];
      expect(data?.auditLog?.totalCount).toBe(partners.length);
      return partners.sort();
    }

    test.each<[string, object, string[]]>([
      ['a partner: its own', { roles: ['partner-admin'], partner: 'acme' }, ['acme']],
      ['its viewer: the same', { roles: ['partner-viewer'], partner: 'acme' }, ['acme']],
      ['another partner: nothing of that', { roles: ['partner-admin'], partner: 'globex' }, []],
      ['a platform admin: everything', { roles: ['platform-admin'] }, ['acme', 'platform']],
      ['no role: FORBIDDEN', { roles: [], partner: 'acme' }, ['FORBIDDEN']],
    ])('%s', async (_who, claims, seen) => {
      expect(await actionsFor(await bearer({ ...claims }))).toEqual(seen);
    });

    test('a tenant: FORBIDDEN', async () => {
      expect(await actionsFor({ 'X-API-Key': apiKey })).toEqual(['FORBIDDEN']);
    });
  });

  test('a refused request is no row of change', async () => {
    const { totalCount } = await auditLog({});
    await gateway.graphql(
      `mutation { deleteTenant(input: { id: "${id.replace(/./g, '0')}" }) { userErrors { code } } }`,
    );
    await gateway.post('/graphql', { query: '{ viewer { subject } }' }, { 'X-API-Key': 'tk_bad' });
    expect((await auditLog({})).totalCount).toBe(totalCount);
  });
});
