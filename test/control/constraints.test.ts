import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type World } from '../harness.ts';
import { insertOperationRow, insertRow, insertTenantRow, type TenantColumns } from './rows.ts';

// What the code relies on is impossible in the table itself, whoever writes to it.
let world: World;

beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.close());

const check = { code: '23514' };
const unique = { code: '23505' };
const now = new Date();

describe('a tenant cannot be', () => {
  test.each<[string, TenantColumns]>([
    ['ACTIVE and never activated', { status: 'ACTIVE', activated_at: null }],
    ['SUSPENDED and never activated', { status: 'SUSPENDED', activated_at: null }],
    [
      'DELETED without a purge',
      { status: 'DELETED', deleted_at: now, status_before_delete: 'ACTIVE' },
    ],
    ['DELETED without a way back', { status: 'DELETED', deleted_at: now, purge_at: now }],
    [
      'DELETED back to PROVISIONING',
      { status: 'DELETED', deleted_at: now, purge_at: now, status_before_delete: 'PROVISIONING' },
    ],
    ['ACTIVE and deleted', { deleted_at: now, purge_at: now }],
    ['in a status of its own', { status: 'UNKNOWN' }],
    ['in an environment of its own', { environment: 'production' }],
    ['isolated in a way of its own', { isolation: 'NONE' }],
    ['nobody’s', { partner: '' }],
    ['nameless', { name: '' }],
    ['of a name too long', { name: 'n'.repeat(256) }],
    ['of a slug too long', { slug: 's'.repeat(49) }],
    ['of a slug with a space', { slug: 'a b' }],
    ['of a slug with two hyphens', { slug: 'a--b' }],
    ['of a domain too long', { domain: 'd'.repeat(256) }],
    ['of version 0', { version: 0 }],
  ])('%s', async (_what, columns) => {
    await expect(insertTenantRow(world, columns)).rejects.toMatchObject(check);
  });

  test('a second one of a slug or a domain, in any case; failed and purged ones free them', async () => {
    const names = { slug: 'only-one', domain: 'Only.Example.com' };
    const first = await insertTenantRow(world, names);
    for (const rival of [{ slug: 'only-one' }, { domain: 'ONLY.example.COM' }]) {
      await expect(insertTenantRow(world, rival)).rejects.toMatchObject(unique);
    }
    const setStatus = (status: string) =>
      world.query(`UPDATE control_plane.tenants SET status = $2 WHERE id = $1`, [first, status]);
    await setStatus('PURGED');
    const second = await insertTenantRow(world, { ...names, status: 'FAILED' });
    const third = await insertTenantRow(world, names);
    expect(new Set([first, second, third]).size).toBe(3);
    await expect(setStatus('ACTIVE')).rejects.toMatchObject(unique);
  });
});

describe('a tenant database cannot be', () => {
  const place = () => ({
    cluster: 'default',
    isolation: 'DATABASE',
    database_name: `db_${randomBytes(4).toString('hex')}`,
    owner_role: `own_${randomBytes(4).toString('hex')}`,
    login_role: `usr_${randomBytes(4).toString('hex')}`,
  });
  const insert = async (columns: TenantColumns): Promise<void> =>
    insertRow(world, 'tenant_databases', {
      tenant_id: await insertTenantRow(world),
      ...place(),
      ...columns,
    });

  test.each<[string, TenantColumns]>([
    ['PROVISIONED without a connection string', { status: 'PROVISIONED' }],
    ['OUTDATED without a connection string', { status: 'OUTDATED' }],
    ['DROPPED with one', { status: 'DROPPED', connection_string_encrypted: 'v1.x.y' }],
    ['of a name that PostgreSQL would cut', { database_name: 'd'.repeat(64) }],
    ['of a name of 64 bytes in 32 characters', { database_name: 'é'.repeat(32) }],
    ['a schema without a name', { isolation: 'SCHEMA' }],
    ['a database with a schema', { schema_name: 'acme' }],
    ['on no cluster', { cluster: '' }],
  ])('%s', async (_what, columns) => {
    await expect(insert(columns)).rejects.toMatchObject(check);
  });

  test.each<[string, TenantColumns]>([
    ['database name', { database_name: 'twice' }],
    ['login role', { login_role: 'usr_twice' }],
    ['schema name', { isolation: 'SCHEMA', schema_name: 'twice' }],
  ])('the second of a %s, until the first was dropped', async (_what, columns) => {
    await insert(columns);
    await expect(insert(columns)).rejects.toMatchObject(unique);
    await world.query(`UPDATE control_plane.tenant_databases SET status = 'DROPPED'
      WHERE database_name = 'twice' OR login_role = 'usr_twice' OR schema_name = 'twice'`);
    await insert(columns);
  });

  test('anybody’s but a tenant’s', async () => {
    const orphan = insertRow(world, 'tenant_databases', { tenant_id: randomUUID(), ...place() });
    await expect(orphan).rejects.toMatchObject({ code: '23503' });
  });
});

describe('an operation cannot be', () => {
  test.each<[string, TenantColumns]>([
    ['SUCCEEDED and not finished', { status: 'SUCCEEDED' }],
    ['RUNNING and finished', { finished_at: now }],
    [
      'finished and keeping its secrets',
      { status: 'SUCCEEDED', finished_at: now, secrets_encrypted: 'v1' },
    ],
    ['COMPENSATED without a reason', { status: 'COMPENSATED', finished_at: now }],
    ['FAILED without a reason', { status: 'FAILED', finished_at: now }],
    ['held at fence 0', { fence: 0 }],
    ['of a batch without a place in it', { batch_index: 1 }],
    ['of an unknown kind', { kind: 'RENAME' }],
  ])('%s', async (_what, columns) => {
    const tenant = await insertTenantRow(world);
    await expect(insertOperationRow(world, tenant, columns)).rejects.toMatchObject(check);
  });

  test('open beside another one on the same tenant', async () => {
    const tenant = await insertTenantRow(world);
    const first = await insertOperationRow(world, tenant);
    await expect(insertOperationRow(world, tenant, { kind: 'DELETE' })).rejects.toMatchObject({
      ...unique,
      constraint: 'operations_one_open',
    });
    await world.query(
      `UPDATE control_plane.operations SET status = 'SUCCEEDED', finished_at = now() WHERE id = $1`,
      [first],
    );
    await insertOperationRow(world, tenant, { kind: 'DELETE' });
  });
});

describe('the audit log', () => {
  beforeAll(() =>
    insertRow(world, 'audit_log', {
      actor: 'somebody',
      partner: 'platform',
      action: 'createTenant',
      outcome: 'ACCEPTED',
    }),
  );

  test.each([
    `UPDATE control_plane.audit_log SET actor = 'nobody'`,
    'DELETE FROM control_plane.audit_log',
    'TRUNCATE control_plane.audit_log',
    'TRUNCATE control_plane.tenants CASCADE; TRUNCATE control_plane.audit_log',
  ])('refuses %s', async (sql) => {
    await expect(world.query(sql)).rejects.toMatchObject({ code: '42501' });
    const rows = await world.query('SELECT actor FROM control_plane.audit_log');
    expect(rows).toEqual([{ actor: 'somebody' }]);
  });
});

describe('an API key', () => {
  const key = async (columns: TenantColumns = {}): Promise<void> =>
    insertRow(world, 'api_keys', {
      id: randomUUID(),
      tenant_id: await insertTenantRow(world),
      display: 'tk_x',
      lookup: 'abcdefghijkl',
      hash: randomBytes(32),
      ...columns,
    });

  test('has a hash of 32 bytes, once, and a look-up of 12 characters, perhaps twice', async () => {
    const hash = randomBytes(32);
    await key({ hash });
    await key();
    await expect(key({ hash })).rejects.toMatchObject(unique);
    await expect(key({ hash: randomBytes(31) })).rejects.toMatchObject(check);
    await expect(key({ lookup: 'short' })).rejects.toMatchObject(check);
  });
});
