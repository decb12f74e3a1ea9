import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';

let world: World;
let gateway: TestGateway;

// What lists do is shown by rows: their databases would only take time.
const rows = [
  ['alpha', 'Alpha Ltd', 'PRODUCTION', 'ACTIVE', 'alpha.example.com', 0],
  ['beta', 'Bêta 100%', 'STAGING', 'SUSPENDED', null, 1],
  ['gamma', 'gamma_x', 'STAGING', 'ACTIVE', 'GAMMA.example.com', 1], // at the same moment as beta
  ['delta', 'back\\slash', 'DEVELOPMENT', 'PROVISIONING', null, 2],
  ['omega', 'Alpha Ltd', 'PRODUCTION', 'FAILED', null, 3],
  ['zeta', 'zz', 'DEVELOPMENT', 'ACTIVE', null, 4],
] as const;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
  for (const [slug, name, environment, status, domain, second] of rows) {
    await world.query(
      `WITH tenant AS (
         INSERT INTO control_plane.tenants (id, partner, name, slug, environment, status, domain,
           settings, isolation, created_at, updated_at, activated_at)
         VALUES (gen_random_uuid(), 'p', $1, $2, $3, $4, $5,
           '{"features": [], "limits": {"users": 1, "storageGb": 1}}', 'DATABASE',
           timestamptz '2026-01-01 00:00:00.123456+00' + $6 * interval '1 second',
           timestamptz '2026-02-01 00:00:00+00' - $6 * interval '1 second', now())
         RETURNING id)
       INSERT INTO control_plane.tenant_databases (tenant_id, cluster, isolation, database_name,
         owner_role, login_role, migration_version)
       SELECT id, CASE WHEN $2 = 'zeta' THEN 'other' ELSE 'default' END, 'DATABASE', $2 || '_db',
         $2 || '_owner', $2 || '_login', CASE WHEN $2 IN ('beta', 'zeta') THEN '1_old' END
       FROM tenant`,
      [name, slug, environment, status, domain, second],
    );
  }
});
afterAll(() => world.close());

interface Page {
  readonly totalCount: number;
  readonly nodes: readonly { readonly slug: string }[];
  readonly edges: readonly { readonly cursor: string; readonly node: { readonly slug: string } }[];
  readonly pageInfo: {
    readonly hasNextPage: boolean;
    readonly hasPreviousPage: boolean;
    readonly startCursor: string | null;
    readonly endCursor: string | null;
  };
}

const document = `query (
  $first: Int, $after: String, $last: Int, $before: String, $filter: TenantFilter, $orderBy: TenantOrder
) {
  tenants(
    first: $first, after: $after, last: $last, before: $before, filter: $filter, orderBy: $orderBy
  ) {
    totalCount
    nodes { slug }
    edges { cursor node { slug } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}`;

async function list(variables: object): Promise<Page> {
  const { tenants } = await gateway.graphql<{ tenants: Page }>(document, variables);
  expect(tenants.edges.map(({ node }) => node)).toEqual(tenants.nodes);
  expect(tenants.pageInfo.startCursor).toBe(tenants.edges[0]?.cursor ?? null);
  expect(tenants.pageInfo.endCursor).toBe(tenants.edges.at(-1)?.cursor ?? null);
  return tenants;
}
const slugs = ({ nodes }: Page): string[] => nodes.map(({ slug }) => slug);

describe('Query.tenants: filter', () => {
  test.for<[filter: object | null, found: string[]]>([
    [null, ['alpha', 'beta', 'delta', 'gamma', 'zeta']],
    [{}, ['alpha', 'beta', 'delta', 'gamma', 'zeta']],
    [{ status: null, search: null }, ['alpha', 'beta', 'delta', 'gamma', 'zeta']],
    [{ status: ['FAILED'] }, ['omega']],
    [{ status: ['SUSPENDED', 'PROVISIONING'] }, ['beta', 'delta']],
    [{ status: [] }, []],
    [{ environment: ['STAGING'] }, ['beta', 'gamma']],
    [{ environment: ['DEVELOPMENT', 'PRODUCTION'] }, ['alpha', 'delta', 'zeta']],
    [{ isolation: ['SCHEMA'] }, []],
    [{ isolation: ['DATABASE'], environment: ['PRODUCTION'] }, ['alpha']],
    [{ cluster: 'other' }, ['zeta']],
    [{ cluster: 'nowhere' }, []],
    [{ search: 'ALPHA' }, ['alpha']],
    [{ search: 'gamma.ex' }, ['gamma']],
    [{ search: 'bêta' }, ['beta']],
    [{ search: 'TA' }, ['beta', 'delta', 'zeta']],
    [{ search: '%' }, ['beta']],
    [{ search: '0%' }, ['beta']],
    [{ search: '_' }, ['gamma']],
    [{ search: '\\' }, ['delta']],
    [{ search: '\\\\' }, []],
    [{ search: "'" }, []],
    [{ search: "' OR true --" }, []],
    [{ search: '🐘' }, []],
    [{ createdAfter: '2026-01-01T00:00:02.000Z' }, ['delta', 'zeta']],
    [{ createdAfter: '2026-01-01T01:00:02+01:00' }, ['delta', 'zeta']],
    [{ createdBefore: '2026-01-01T00:00:01.000Z' }, ['alpha']],
    [
      { createdAfter: '2026-01-01T00:00:01Z', createdBefore: '2026-01-01T00:00:02Z' },
      ['beta', 'gamma'],
    ],
    [{ createdAfter: '9999-12-31T23:59:59Z' }, []],
    [{ createdBefore: '0001-01-01T00:00:00Z' }, []],
    [{ behindMigrations: true }, ['alpha', 'beta', 'delta', 'gamma', 'zeta']],
    [{ behindMigrations: false }, []],
  ])('%j', async ([filter, found]) => {
    const page = await list({ filter, orderBy: { field: 'SLUG', direction: 'ASC' } });
    expect(slugs(page)).toEqual(found);
    expect(page.totalCount).toBe(found.length);
  });
});

describe('Query.tenants: orderBy', () => {
  // Equal sort values are told apart by id, which is random.
  const sorted = ({ nodes }: Page): string[] => slugs({ nodes } as Page);
  test.for<[orderBy: object | null, found: (string | string[])[]]>([
    [null, ['zeta', 'delta', ['beta', 'gamma'], 'alpha']],
    [{ field: 'CREATED_AT', direction: 'DESC' }, ['zeta', 'delta', ['beta', 'gamma'], 'alpha']],
    [{ field: 'CREATED_AT', direction: 'ASC' }, ['alpha', ['beta', 'gamma'], 'delta', 'zeta']],
    [{ field: 'UPDATED_AT', direction: 'ASC' }, ['zeta', 'delta', ['beta', 'gamma'], 'alpha']],
    [{ field: 'SLUG', direction: 'DESC' }, ['zeta', 'gamma', 'delta', 'beta', 'alpha']],
    [{ field: 'SLUG', direction: 'ASC' }, ['alpha', 'beta', 'delta', 'gamma', 'zeta']],
  ])('%j', async ([orderBy, found]) => {
    const seen = sorted(await list({ orderBy }));
    for (const part of found) {
      const expected = [part].flat();
      expect(seen.splice(0, expected.length).sort()).toEqual(expected);
    }
    expect(seen).toEqual([]);
  });

  test('{"field":"NAME"} is the order of the database, both ways alike', async () => {
    const names = async (direction: string): Promise<string[]> =>
      slugs(await list({ orderBy: { field: 'NAME', direction } }));
    const [{ collated }] = (await world.query<{ collated: string[] }>(
      `SELECT array_agg(slug ORDER BY name, id) AS collated FROM control_plane.tenants
       WHERE status <> 'FAILED'`,
    )) as [{ collated: string[] }];
    expect(await names('ASC')).toEqual(collated);
    expect(await names('DESC')).toEqual(collated.toReversed());
  });
});

describe('Query.tenants: paging', () => {
  const orders = ['CREATED_AT', 'UPDATED_AT', 'NAME', 'SLUG'].flatMap((field) =>
    ['ASC', 'DESC'].map((direction) => ({ field, direction })),
  );

  test.for(orders)('forward and backward go over all, once each: %j', async (orderBy) => {
    const all = slugs(await list({ orderBy }));
    for (const size of [1, 2, 3, 5, 100]) {
      const forward: string[] = [];
      for (let after: string | null = null; ;) {
        const page = await list({ orderBy, first: size, after });
        forward.push(...slugs(page));
        expect(page.totalCount).toBe(all.length);
        expect(page.pageInfo.hasNextPage).toBe(forward.length < all.length);
        if (!page.pageInfo.hasNextPage) break;
        after = page.pageInfo.endCursor;
      }
      expect(forward).toEqual(all);
      const backward: string[] = [];
      for (let before: string | null = null; ;) {
        const page = await list({ orderBy, last: size, before });
        backward.unshift(...slugs(page));
        expect(page.pageInfo.hasPreviousPage).toBe(backward.length < all.length);
        if (!page.pageInfo.hasPreviousPage) break;
        before = page.pageInfo.startCursor;
      }
      expect(backward).toEqual(all);
    }
  });

  test('between two cursors lies what is between them', async () => {
    const orderBy = { field: 'SLUG', direction: 'ASC' };
    const { edges } = await list({ orderBy });
    const after = edges[0]!.cursor;
    const before = edges[4]!.cursor;
    expect(slugs(await list({ orderBy, after, before }))).toEqual(['beta', 'delta', 'gamma']);
    expect(slugs(await list({ orderBy, after, before, first: 1 }))).toEqual(['beta']);
    expect(slugs(await list({ orderBy, after, before, last: 1 }))).toEqual(['gamma']);
    expect(slugs(await list({ orderBy, after: before, before: after }))).toEqual([]);
  });
});
