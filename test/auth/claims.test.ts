import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { bearer, startWithTokens } from '../tokens.ts';

let world: World;
let gateway: TestGateway;
let elsewhere: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await startWithTokens(world);
  elsewhere = await startWithTokens(world, {
    JWT_ROLES_CLAIM: 'realm_access.roles',
    JWT_PARTNER_CLAIM: 'https://issuer.test/partner',
  });
});
afterAll(() => world.close());

const query = '{ viewer { kind subject partner roles permissions } }';
async function viewerOf(claims: object, at = gateway): Promise<unknown> {
  const answer = await at.post('/graphql', { query }, await bearer({ ...claims }));
  const { data, errors } = answer.json as {
    data?: { viewer: unknown };
    errors?: { message: string }[];
  };
  return answer.status === 200 ? data?.viewer : { status: answer.status, ...errors?.[0] };
}

const viewerPermissions = ['tenant:read'];
const reserved =
  "The token's partner must be no reserved name: platform, or one that begins with sub:";

describe('the claims of a token', () => {
  test.for<[roles: unknown, expected: readonly string[]]>([
    [['partner-viewer'], ['partner-viewer']],
    ['partner-viewer', ['partner-viewer']],
    ['other partner-viewer', ['other', 'partner-viewer']],
    ['other, partner-viewer,', ['other', 'partner-viewer']],
    [
      ['partner-viewer', 'partner-viewer', 'x y'],
      ['partner-viewer', 'x y'],
    ],
  ])('roles: %j', async ([roles, expected]) => {
    expect(await viewerOf({ roles, partner: 'acme' })).toEqual({
      kind: 'USER',
      subject: 'somebody',
      partner: 'acme',
      roles: expected,
      permissions: viewerPermissions,
    });
  });

  test.for<[claims: object, message: string]>([
    [{ roles: { admin: true } }, "The token's roles must be a text or a list of texts"],
    [{ roles: ['x', 1] }, "The token's roles must be a text or a list of texts"],
    [{ roles: 7 }, "The token's roles must be a text or a list of texts"],
    [{ permissions: { all: 1 } }, "The token's permissions must be a text or a list of texts"],
    [{ partner: '' }, "The token's partner must be a text of 1 to 255 characters"],
    [{ partner: 7 }, "The token's partner must be a text of 1 to 255 characters"],
    [{ partner: ['acme'] }, "The token's partner must be a text of 1 to 255 characters"],
    [{ partner: 'a\0b' }, "The token's partner must be a text of 1 to 255 characters"],
    [{ partner: 'x'.repeat(256) }, "The token's partner must be a text of 1 to 255 characters"],
    [{ partner: 'platform' }, reserved],
    [{ partner: 'sub:acme' }, reserved],
    [{ partner: 'sub:somebody' }, reserved],
    [{ partner: 'sub:' }, reserved],
    [{ partner: 'platform', roles: ['platform-admin'] }, reserved],
    [{ sub: 'a\0b' }, "The token's sub must be a text of at most 255 characters"],
    [{ sub: 'x'.repeat(256) }, "The token's sub must be a text of at most 255 characters"],
  ])('%j is 401', async ([claims, message]) => {
    expect(await viewerOf({ roles: ['partner-admin'], ...claims })).toMatchObject({
      status: 401,
      message,
    });
  });

  test('no role may nothing', async () => {
    const viewer = { roles: [], permissions: [], partner: 'acme' };
    expect(await viewerOf({ partner: 'acme' })).toMatchObject(viewer);
    expect(await viewerOf({ partner: 'acme', roles: null })).toMatchObject(viewer);
    expect(await viewerOf({ partner: 'acme', roles: 'constructor __proto__' })).toMatchObject({
      permissions: [],
    });
  });

  test('permissions add to the roles; unknown ones add nothing', async () => {
    expect(
      await viewerOf({ roles: 'partner-viewer', permissions: ['tenant:connect', 'tenant:all'] }),
    ).toMatchObject({ permissions: ['tenant:connect', 'tenant:read'] });
    expect(await viewerOf({ permissions: 'tenant:read tenant:create' })).toMatchObject({
      permissions: ['tenant:create', 'tenant:read'],
    });
  });

  test('without a partner nobody sees everybody’s tenants, but for a platform admin', async () => {
    expect(await viewerOf({ roles: ['partner-admin'] })).toMatchObject({
      partner: 'sub:somebody',
    });
    expect(await viewerOf({ roles: ['platform-admin'] })).toMatchObject({ partner: null });
    const make = async (claims: object) =>
      gateway.post(
        '/graphql',
        {
          query: 'mutation { createTenant(input: { name: "claims" }) { tenant { partner } } }',
        },
        await bearer({ ...claims }),
      );
    const made = { data: { createTenant: { tenant: { partner: 'acme' } } } };
    expect((await make({ roles: 'partner-admin', partner: 'acme' })).json).toEqual(made);
    // Of its own partner, though it sees all.
    expect((await make({ roles: 'platform-admin', partner: 'acme' })).json).toEqual(made);
    const count = async (claims: object): Promise<unknown> => {
      const answer = await gateway.post(
        '/graphql',
        { query: '{ tenants { totalCount } }' },
        await bearer({ ...claims }),
      );
      return (answer.json as { data: { tenants: { totalCount: number } } }).data.tenants.totalCount;
    };
    expect(await count({ roles: 'partner-admin' })).toBe(0);
    expect(await count({ permissions: 'tenant:read' })).toBe(0);
    expect(await count({ roles: 'partner-viewer', partner: 'acme' })).toBe(2);
    expect(await count({ roles: 'platform-admin', partner: 'other' })).toBe(2);
  });

  test.for(['acme', 'platform', 'sub:acme', 'sub:', 'sub:somebody'])(
    'without a partner, the subject %s is no other partner',
    async (sub) => {
      const roles = ['partner-admin'];
      expect(await viewerOf({ roles, sub })).toMatchObject({ partner: `sub:${sub}` });
      const query = `mutation { createTenant(input: { name: "mine" }) { tenant { id partner } } }`;
      const { json } = await gateway.post('/graphql', { query }, await bearer({ roles, sub }));
      const { tenant } = (json as { data: { createTenant: { tenant: { id: string } } } }).data
        .createTenant;
      expect(tenant).toMatchObject({ partner: `sub:${sub}` });
      // Whoever has that name, by a claim or as a subject of the same name, does not see it.
      const others = { acme: { partner: 'acme' }, 'sub:acme': { sub: 'acme' } };
      for (const claims of Object.values(others)) {
        const seen = await gateway.post(
          '/graphql',
          { query: `{ tenant(id: "${tenant.id}") { id } }` },
          await bearer({ roles, ...claims }),
        );
        const isOwn = 'sub' in claims && claims.sub === sub;
        expect(seen.json).toEqual({ data: { tenant: isOwn ? { id: tenant.id } : null } });
      }
    },
  );

  test('names of 255 characters are counted and can be named by an operator', async () => {
    const limited = await startWithTokens(world, { RATE_LIMIT_CREATIONS_PER_MINUTE: '1' });
    const sub = 'é'.repeat(255);
    const make = async (claims: object, input: string) =>
      limited.post(
        '/graphql',
        {
          query: `mutation { createTenant(input: { ${input} }) { tenant { partner } userErrors { message } } }`,
        },
        await bearer({ ...claims }),
      );
    const made = { data: { createTenant: { tenant: { partner: `sub:${sub}` }, userErrors: [] } } };
    const mine = { roles: 'partner-admin', sub };
    expect((await make(mine, 'name: "a"')).json).toEqual(made);
    expect((await make(mine, 'name: "a"')).status).toBe(429);
    const named = `name: "a", partner: "sub:${sub}"`;
    expect((await make({ roles: 'platform-admin' }, named)).json).toEqual(made);
    // Counted each by itself, though their names begin alike.
    const other = { roles: 'partner-admin', sub: `${sub.slice(1)}x` };
    expect((await make(other, 'name: "a"')).status).toBe(200);
    await limited.close();
  });

  test('are found by a path, or by a name that has dots itself', async () => {
    const claims = {
      realm_access: { roles: ['partner-viewer'] },
      'https://issuer.test/partner': 'acme',
      roles: ['platform-admin'],
      partner: 'another',
    };
    expect(await viewerOf(claims, elsewhere)).toMatchObject({
      partner: 'acme',
      roles: ['partner-viewer'],
    });
    expect(await viewerOf({ realm_access: 'x' }, elsewhere)).toMatchObject({ roles: [] });
  });
});
