import type { Knex } from 'knex';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { listTenants, type TenantFilter } from '../../src/control/tenant-lists.ts';
import {
  countTenants,
  findTenant,
  findTenants,
  tenantNameTaken,
  type Tenant,
} from '../../src/control/tenants.ts';
import { createWorld, type World } from '../harness.ts';
import { insertRow, insertTenantRow, openRegistry } from './rows.ts';

let world: World;
let control: Knex;

beforeAll(async () => {
  world = await createWorld();
  control = openRegistry(world);
});
afterAll(async () => {
  await control.destroy();
  await world.close();
});

/** All that a partner sees under this filter, oldest first, and how many are counted. */
async function list(partner: string, filter: TenantFilter): Promise<readonly Tenant[]> {
  const order = { field: 'CREATED_AT', descending: false } as const;
  const whole = { limit: 100, backward: false };
  const page = await listTenants(control, { partner }, filter, order, whole);
  expect(await page.countAll()).toBe(page.rows.length);
  return page.rows;
}

describe('listTenants, filtered', () => {
  const partner = 'filters';
  const rows = [
    { name: '100% cotton', slug: 'cotton', domain: 'Cotton.example.com' },
    { name: '1000 cotton', slug: 'more-cotton', environment: 'STAGING' },
    { name: 'snake_case', slug: 'snake_case' },
    { name: 'snakeXcase', slug: 'snake-x', environment: 'DEVELOPMENT' },
    { name: 'back\\slash', slug: 'back' },
    { name: 'Großraum', slug: 'gross', status: 'SUSPENDED' },
    { name: 'failed', slug: 'failed', status: 'FAILED', activated_at: null },
    { name: 'purged', slug: 'purged', status: 'PURGED' },
    { name: 'young', slug: 'young', status: 'PROVISIONING', activated_at: null },
  ];

  beforeAll(async () => {
    for (const [index, row] of rows.entries()) {
      const id = await insertTenantRow(world, {
        partner,
        created_at: new Date(Date.UTC(2026, 0, index + 1)),
        ...row,
      });
      await insertRow(world, 'tenant_databases', {
        tenant_id: id,
        cluster: index < 2 ? 'first' : 'second',
        isolation: 'DATABASE',
        database_name: `db_${index}`,
        owner_role: `own_${index}`,
        login_role: `usr_${index}`,
        migration_version: [null, '001', '002'][index % 3],
      });
    }
  });

  const living = rows.filter((row) => !['FAILED', 'PURGED'].includes(row.status ?? 'ACTIVE'));
  const at = (day: number) => new Date(Date.UTC(2026, 0, day));

  test.each<[string, TenantFilter, string[]]>([
    ['nothing: all but failed and purged ones', {}, living.map((row) => row.name)],
    ['search with %', { search: '0%' }, ['100% cotton']],
    ['search with _', { search: 'e_c' }, ['snake_case']],
    ['search with \\', { search: 'k\\s' }, ['back\\slash']],
    ['search for nothing but %', { search: '%' }, ['100% cotton']],
    ['search without case', { search: 'COTTON' }, ['100% cotton', '1000 cotton']],
    ['search in the domain', { search: 'cotton.EXAMPLE' }, ['100% cotton']],
    ['search in the slug', { search: 'snake-' }, ['snakeXcase']],
    ['search beyond ASCII', { search: 'großr' }, ['Großraum']],
    ['search with quotes', { search: `'; DROP TABLE tenants; --` }, []],
    ['status', { status: ['FAILED', 'PROVISIONING'] }, ['failed', 'young']],
    ['no status at all', { status: [] }, []],
    ['environment', { environment: ['STAGING', 'DEVELOPMENT'] }, ['1000 cotton', 'snakeXcase']],
    ['isolation', { isolation: ['SCHEMA'] }, []],
    ['cluster', { cluster: 'first' }, ['100% cotton', '1000 cotton']],
    ['createdAfter', { createdAfter: at(4) }, ['back\\slash', 'Großraum', 'young']],
    ['createdBefore', { createdBefore: at(2) }, ['100% cotton']],
    [
      'at the newest migration',
      { behindMigrations: { behind: false, newest: '002' } },
      ['snake_case', 'Großraum', 'young'],
    ],
    [
      'behind it',
      { behindMigrations: { behind: true, newest: '002' } },
      ['100% cotton', '1000 cotton', 'snakeXcase', 'back\\slash'],
    ],
    [
      'all at once',
      { search: 'snake', environment: ['PRODUCTION'], cluster: 'second' },
      ['snake_case'],
    ],
  ])('%s', async (_what, filter, expected) => {
    const found = await list(partner, filter);
    expect(found.map((row) => row.name)).toEqual(expected);
  });
});

describe('another partner’s tenants', () => {
  test('are in no list, count or look-up', async () => {
    const partner = 'owner of secrets';
    const slug = 'secret-slug';
    const id = await insertTenantRow(world, {
      partner,
      slug,
      name: 'S',
      domain: 'secret.example.com',
    });
    const stranger = { partner: 'stranger' };
    const keys = [{ id }, { slug }, { domain: 'SECRET.example.com' }];
    for (const key of keys) {
      expect(await findTenant(control, stranger, key)).toBeNull();
      expect((await findTenant(control, { partner }, key))?.id).toBe(id);
      expect((await findTenant(control, null, key))?.id).toBe(id);
    }
    expect(await findTenants(control, stranger, [id])).toEqual([]);
    expect(await list(stranger.partner, {})).toEqual([]);
    expect(await list(stranger.partner, { search: 'secret' })).toEqual([]);
    expect(await countTenants(control, stranger.partner)).toBe(0);
    expect(await tenantNameTaken(control, stranger.partner, 'S')).toBe(false);
    expect(await tenantNameTaken(control, partner, 'S')).toBe(true);
  });
});
