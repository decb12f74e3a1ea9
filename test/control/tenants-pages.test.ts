import type { Knex } from 'knex';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Cursor, Page } from '../../src/control/pages.ts';
import { listTenants, tenantOrders } from '../../src/control/tenant-lists.ts';
import type { Scope, Tenant } from '../../src/control/tenants.ts';
import { createWorld, type World } from '../harness.ts';
import { insertTenantRow, openRegistry } from './rows.ts';

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

type Field = keyof typeof tenantOrders;
const fields = Object.keys(tenantOrders) as Field[];
const directions = [false, true];
const orders = fields.flatMap((field) => directions.map((descending) => ({ field, descending })));

const readPartner = (partner: string) => ({ partner }) satisfies Scope;

/** The whole list, page by page. */
async function readAll(
  scope: Scope,
  order: { field: Field; descending: boolean },
  limit: number,
  backward: boolean,
  betweenPages: () => Promise<unknown> = () => Promise.resolve(),
): Promise<Tenant[]> {
  const rows: Tenant[] = [];
  let cursor: Cursor | undefined;
  for (;;) {
    const from = cursor === undefined ? {} : backward ? { before: cursor } : { after: cursor };
    const page: Page<Tenant> = await listTenants(control, scope, {}, order, {
      limit,
      backward,
      ...from,
    });
    if (backward) rows.unshift(...page.rows);
    else rows.push(...page.rows);
    if (!page.hasMore) return rows;
    cursor = backward ? page.rows[0]?.cursor : page.rows.at(-1)?.cursor;
    await betweenPages();
  }
}

describe('listTenants, page by page', () => {
  const partner = 'pages';
  let sorted: Map<string, string[]>;

  beforeAll(async () => {
    // Names that are equal, moments a microsecond apart and equal, beyond what a JS date can tell.
    const names = [
      'same',
      'same',
      'same',
      'Same',
      'zebra',
      'Äpfel',
      'a b',
      'a_b',
      "o'clock",
      '日本',
    ];
    const moments = ['000001', '000002', '000002', '000999', '001000', '500000', '999999'];
    for (const [index, name] of [...names, ...names].entries()) {
      const micros = moments[index % moments.length]!;
      await insertTenantRow(world, {
        partner,
        name,
        created_at: `2026-01-01 00:00:00.${micros}+00`,
        updated_at: `2026-02-01 00:00:00.${moments[(index * 3) % moments.length]!}+00`,
      });
    }
    await insertTenantRow(world, { partner: 'somebody else', name: 'same' });
    sorted = new Map();
    for (const { field, descending } of orders) {
      const direction = descending ? 'DESC' : 'ASC';
      const rows = await world.query<{ id: string }>(
        `SELECT id FROM control_plane.tenants WHERE partner = $1
         ORDER BY ${tenantOrders[field].column} ${direction}, id ${direction}`,
        [partner],
      );
      sorted.set(
        `${field} ${direction}`,
        rows.map((row) => row.id),
      );
    }
  });

  test.each(orders)('$field, descending $descending: any page size, both ways', async (order) => {
    const expected = sorted.get(`${order.field} ${order.descending ? 'DESC' : 'ASC'}`);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 25 }), fc.boolean(), async (limit, backward) => {
        const rows = await readAll(readPartner(partner), order, limit, backward);
        expect(rows.map((row) => row.id)).toEqual(expected);
      }),
      {
        numRuns: 10,
        examples: [
          [1, true],
          [20, false],
          [20, true],
        ],
      },
    );
  });

  test.each(orders)('$field, descending $descending: no drift under inserts', async (order) => {
    const scope = readPartner(`drift ${order.field} ${order.descending ? 'DESC' : 'ASC'}`);
    const at = (day: number) => new Date(Date.UTC(2026, 0, day));
    const add = (key: number) =>
      insertTenantRow(world, {
        partner: scope.partner,
        name: `n${key}`,
        slug: `s${key}${order.field.toLowerCase().replace('_', '')}${order.descending ? 'd' : 'a'}`,
        created_at: at(key),
        updated_at: at(key),
      });
    const there = await Promise.all([22, 24, 26, 28].map(add));
    const early = order.descending ? [29, 30, 31] : [21, 20, 19];
    const seen = await readAll(scope, order, 1, false, async () => {
      const key = early.shift();
      if (key !== undefined) await add(key);
    });
    const expected = order.descending ? there.toReversed() : there;
    expect(seen.map((row) => row.id)).toEqual(expected);
  });

  test('counts the whole list, whatever the page', async () => {
    const page = await listTenants(
      control,
      readPartner(partner),
      {},
      { field: 'NAME', descending: false },
      { limit: 3, backward: false },
    );
    expect(page.rows).toHaveLength(3);
    expect(await page.countAll()).toBe(20);
  });

  test('a window between two cursors', async () => {
    const order = { field: 'CREATED_AT', descending: false } as const;
    const all = await listTenants(control, readPartner(partner), {}, order, {
      limit: 100,
      backward: false,
    });
    const window = await listTenants(control, readPartner(partner), {}, order, {
      limit: 100,
      backward: true,
      after: all.rows[2]!.cursor,
      before: all.rows[7]!.cursor,
    });
    expect(window.rows.map((row) => row.id)).toEqual(all.rows.slice(3, 7).map((row) => row.id));
    expect(window.hasMore).toBe(false);
  });
});
