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
      partner: 'somebody',
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
