import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import {
  connectionString as connectionStringOf,
  makeTenant,
  type UserError,
} from '../provisioning/tenants.ts';

let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
});
afterAll(() => world.close());

interface Updated {
  readonly tenant: Record<string, unknown> | null;
  readonly userErrors: readonly UserError[];
}

async function update(id: string, input: object): Promise<Updated> {
  const { updateTenant } = await gateway.graphql<{ updateTenant: Updated }>(
    `mutation ($input: UpdateTenantInput!) { updateTenant(input: $input) {
      tenant { id name environment domain description email phoneNumber industry
        settings { features limits { users storageGb } } deletionProtection version updatedAt }
      userErrors { code message field } } }`,
    { input: { id, ...input } },
  );
  return updateTenant;
}

let made = 0;

async function create(input: object = {}): Promise<string> {
  const slug = `update-tenant-${String(++made)}`;
  return (await makeTenant(gateway, { name: slug, slug, ...input })).tenant.id;
}

async function auditOf(id: string): Promise<object[]> {
  return world.query(
    `SELECT action, from_status, to_status, outcome, details FROM control_plane.audit_log
     WHERE tenant_id = $1 AND action = 'updateTenant' ORDER BY id`,
    [id],
  );
}

/** One tenant for what changes nothing. */
let steady: string;
beforeAll(async () => {
  steady = await create({ domain: 'steady.example.com', description: 'as it is' });
});

describe('Mutation.updateTenant', () => {
  test('changes what is given, leaves what is absent, and raises the version', async () => {
    const id = await create({ domain: 'before.example.com', description: 'kept', email: 'a@b.cc' });
    const changes = {
      name: 'Another Name',
      environment: 'STAGING',
      domain: 'after.example.com',
      phoneNumber: '+1 234',
      industry: 'Mills',
      deletionProtection: true,
    };
    const { tenant, userErrors } = await update(id, changes);
    expect(userErrors).toEqual([]);
    expect(tenant).toMatchObject({ ...changes, description: 'kept', email: 'a@b.cc', version: 2 });
    expect(await auditOf(id)).toEqual([
      {
        action: 'updateTenant',
        from_status: 'ACTIVE',
        to_status: 'ACTIVE',
        outcome: 'SUCCEEDED',
        details: { fields: expect.arrayContaining(Object.keys(changes)) as string[], version: 2 },
      },
    ]);
  });

  test('null clears what may be empty, and frees its domain', async () => {
    const fields = { domain: 'free.example.com', description: 'd', email: 'a@b.cc' };
    const more = { phoneNumber: '123', industry: 'i' };
    const id = await create({ ...fields, ...more });
    const nothing = { domain: null, description: null, email: null, phoneNumber: null };
    const { tenant } = await update(id, { ...nothing, industry: null });
    expect(tenant).toMatchObject({ ...nothing, industry: null, version: 2 });
    expect((await update(steady, {})).tenant).toMatchObject({ version: 1 });
    await create({ domain: 'FREE.example.com' });
  });

  test('of the settings, what is absent stays', async () => {
    const settings = { features: ['reporting'], limits: { users: 7, storageGb: 8 } };
    const id = await create({ settings });
    const first = await update(id, { settings: { limits: { users: 9 } } });
    expect(first.tenant?.['settings']).toEqual({ ...settings, limits: { users: 9, storageGb: 8 } });
    const second = await update(id, { settings: { features: [] } });
    expect(second.tenant).toMatchObject({
      settings: { features: [], limits: { users: 9, storageGb: 8 } },
      version: 3,
    });
  });

  test('what changes nothing is no change: the same version, no row of the audit log', async () => {
    const same = {
      name: 'update-tenant-1',
      domain: 'steady.example.com',
      settings: { limits: {} },
    };
    for (const input of [{}, same, { expectedVersion: 1 }]) {
      expect(await update(steady, input)).toMatchObject({ tenant: { version: 1 }, userErrors: [] });
    }
    expect(await auditOf(steady)).toEqual([]);
  });

  test.each<[object, string[][]]>([
    [{ name: '' }, [['input', 'name']]],
    [{ name: null }, [['input', 'name']]],
    [{ name: 'n'.repeat(256) }, [['input', 'name']]],
    [{ environment: null }, [['input', 'environment']]],
    [{ settings: null }, [['input', 'settings']]],
    [{ deletionProtection: null }, [['input', 'deletionProtection']]],
    [{ domain: 'no domain' }, [['input', 'domain']]],
    [{ domain: '' }, [['input', 'domain']]],
    [{ description: 'd'.repeat(4001) }, [['input', 'description']]],
    [{ industry: '\0' }, [['input', 'industry']]],
    [{ expectedVersion: 0 }, [['input', 'expectedVersion']]],
    [{ settings: { features: ['unknown'] } }, [['input', 'settings', 'features', '0']]],
    [{ settings: { limits: { users: 0 } } }, [['input', 'settings', 'limits', 'users']]],
    [
      { email: 'nobody', phoneNumber: 'x' },
      [
        ['input', 'email'],
        ['input', 'phoneNumber'],
      ],
    ],
    [{ idempotencyKey: '' }, [['input', 'idempotencyKey']]],
  ])('refuses %j', async (input, fields) => {
    const { tenant, userErrors } = await update(steady, input);
    expect(tenant).toBeNull();
    expect(userErrors.map(({ code }) => code)).toEqual(fields.map(() => 'INVALID'));
    expect(userErrors.map(({ field }) => field)).toEqual(fields);
    expect((await update(steady, {})).tenant).toMatchObject({ version: 1 });
  });

  test('a domain in use is TAKEN, in any case', async () => {
    const { userErrors } = await update(await create(), { domain: 'Steady.Example.com' });
    expect(userErrors).toMatchObject([{ code: 'TAKEN', field: ['input', 'domain'] }]);
  });

  test('a name in use is TAKEN when it must be unique, and only then', async () => {
    const id = await create();
    const name = 'update-tenant-1';
    const { userErrors } = await update(id, { name, uniqueName: true });
    expect(userErrors).toMatchObject([{ code: 'TAKEN', field: ['input', 'name'] }]);
    expect(await update(id, { name })).toMatchObject({ tenant: { name }, userErrors: [] });
    // Its own name is nobody else's.
    expect(await update(id, { name, uniqueName: true })).toMatchObject({ userErrors: [] });
  });

  test('of changes at once to one version, one is made', async () => {
    const id = await create();
    const outcomes = await Promise.all(
      Array.from({ length: 8 }, (_, index) =>
        update(id, { expectedVersion: 1, description: `by ${String(index)}` }),
      ),
    );
    const codes = outcomes.map(({ userErrors }) => userErrors.map(({ code }) => code).join());
    expect(codes.sort()).toEqual(['', ...Array<string>(7).fill('VERSION_MISMATCH')]);
    expect((await update(id, {})).tenant).toMatchObject({ version: 2 });
  });

  test('the same idempotency key changes once; absent and null are not the same', async () => {
    const id = await create({ description: 'there' });
    const input = { description: 'first', idempotencyKey: 'update-1' };
    const answers = await Promise.all([1, 2, 3, 4].map(() => update(id, input)));
    for (const { tenant } of answers) expect(tenant).toMatchObject({ version: 2 });
    await update(id, { description: 'later' });
    expect(await update(id, input)).toMatchObject({
      tenant: { description: 'later', version: 3 },
      userErrors: [],
    });
    const other = await update(id, { description: null, idempotencyKey: 'update-1' });
    expect(other.userErrors).toMatchObject([{ code: 'IDEMPOTENCY_MISMATCH' }]);
    const absent = await update(id, { idempotencyKey: 'update-2' });
    expect(absent.userErrors).toEqual([]);
    const cleared = await update(id, { description: null, idempotencyKey: 'update-2' });
    expect(cleared.userErrors).toMatchObject([{ code: 'IDEMPOTENCY_MISMATCH' }]);
  });

  test.each(['00000000-0000-4000-8000-000000000000', 'no uuid'])('%s is NOT_FOUND', async (id) => {
    const { tenant, userErrors } = await update(id, { name: 'x' });
    expect(tenant).toBeNull();
    expect(userErrors).toMatchObject([{ code: 'NOT_FOUND', field: ['input', 'id'] }]);
  });

  test('a protected tenant is not deleted until the protection is taken away', async () => {
    const id = await create();
    const remove = async () => {
      const { deleteTenant } = await gateway.graphql<{ deleteTenant: Updated }>(
        `mutation { deleteTenant(input: { id: "${id}" }) { tenant { status } userErrors { code } } }`,
      );
      return deleteTenant;
    };
    await update(id, { deletionProtection: true });
    expect((await remove()).userErrors).toEqual([{ code: 'PROTECTED' }]);
    await update(id, { deletionProtection: false });
    expect((await remove()).tenant).toEqual({ status: 'DELETED' });
    const { userErrors } = await update(id, { name: 'too late' });
    expect(userErrors).toMatchObject([{ code: 'INVALID_STATE', field: ['input', 'id'] }]);
  });
});

describe('Mutation.revealTenantConnection', () => {
  async function reveal(id: string) {
    const { revealTenantConnection } = await gateway.graphql<{
      revealTenantConnection: { connectionString: string | null; userErrors: UserError[] };
    }>(
      `mutation ($id: ID!) { revealTenantConnection(input: { id: $id }) {
        connectionString userErrors { code field } } }`,
      { id },
    );
    return revealTenantConnection;
  }

  const rows = (id: string) =>
    world.query<{ count: number }>(
      `SELECT count(*)::int AS count FROM control_plane.audit_log
       WHERE tenant_id = $1 AND action = 'revealTenantConnection'
         AND actor = 'local-operator' AND ip_address IS NOT NULL`,
      [id],
    );

  test('tells the string that logs in, and writes down each time that it did', async () => {
    const id = await create();
    const { connectionString, userErrors } = await reveal(id);
    expect(userErrors).toEqual([]);
    expect(connectionString).toBe(await connectionStringOf(world, id));
    await reveal(id);
    expect(await rows(id)).toEqual([{ count: 2 }]);
    expect(gateway.logs()).not.toContain(new URL(connectionString!).password);
  });

  test('tells nothing of a tenant that is deleted, and writes nothing', async () => {
    const id = await create();
    await gateway.graphql(`mutation { deleteTenant(input: { id: "${id}" }) { tenant { id } } }`);
    expect(await reveal(id)).toEqual({
      connectionString: null,
      userErrors: [{ code: 'INVALID_STATE', field: ['input', 'id'] }],
    });
    expect(await rows(id)).toEqual([{ count: 0 }]);
  });

  test.each(['00000000-0000-4000-8000-000000000000', 'no uuid'])('%s is NOT_FOUND', async (id) => {
    const { connectionString, userErrors } = await reveal(id);
    expect({ connectionString, userErrors }).toEqual({
      connectionString: null,
      userErrors: [{ code: 'NOT_FOUND', field: ['input', 'id'] }],
    });
  });

  test('tells nothing where it cannot be written down', async () => {
    const id = await create();
    await world.query('ALTER TABLE control_plane.audit_head RENAME TO audit_head_away');
    try {
      const { json } = await gateway.post('/graphql', {
        query: `mutation { revealTenantConnection(input: { id: "${id}" }) { connectionString } }`,
      });
      expect(json).toMatchObject({
        data: { revealTenantConnection: null },
        errors: [{ extensions: { code: 'INTERNAL_SERVER_ERROR' } }],
      });
    } finally {
      await world.query('ALTER TABLE control_plane.audit_head_away RENAME TO audit_head');
    }
  });
});
