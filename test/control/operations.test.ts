import { randomUUID } from 'node:crypto';
import type { Knex } from 'knex';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  countCompensating,
  endOperations,
  FenceLostError,
  findOperation,
  listOperations,
  remainingMs,
  startCompensation,
  takeOver,
  type OperationHold,
} from '../../src/control/operations.ts';
import { createWorld, type World } from '../harness.ts';
import { insertOperationRow, insertTenantRow, openRegistry } from './rows.ts';

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

const failure = { code: 'PROVISIONING_FAILED', message: 'Step x failed' } as const;

describe('an operation', () => {
  let tenantId: string;
  let hold: OperationHold;

  beforeEach(async () => {
    tenantId = await insertTenantRow(world);
    const id = await insertOperationRow(world, tenantId, { secrets_encrypted: 'v1.sealed' });
    hold = { id, fence: 1 };
  });

  const read = () => findOperation(control, null, hold.id);

  test('that ends loses its secrets and takes no more writes', async () => {
    await endOperations(control, [hold], 'SUCCEEDED');
    const [row] = await world.query(
      `SELECT status, secrets_encrypted AS secrets, finished_at IS NOT NULL AS finished
       FROM control_plane.operations WHERE id = $1`,
      [hold.id],
    );
    expect(row).toEqual({ status: 'SUCCEEDED', secrets: null, finished: true });
    await expect(endOperations(control, [hold], 'SUCCEEDED')).rejects.toThrow(FenceLostError);
    await expect(startCompensation(control, hold, failure)).rejects.toThrow(FenceLostError);
    expect(await takeOver(control, hold.id)).toBeNull();
  });

  test('that is being undone tells why, may be told so again, and cannot succeed', async () => {
    const before = await countCompensating(control);
    await startCompensation(control, hold, failure);
    await startCompensation(control, hold, failure);
    expect(await read()).toMatchObject({ status: 'COMPENSATING', errorCode: failure.code });
    expect(await countCompensating(control)).toBe(before + 1);
    await expect(endOperations(control, [hold], 'SUCCEEDED')).rejects.toThrow(FenceLostError);
    await endOperations(control, [hold], 'COMPENSATED');
    expect(await read()).toMatchObject({ status: 'COMPENSATED', errorMessage: failure.message });
    expect(await countCompensating(control)).toBe(before);
  });

  test('that runs cannot end as undone', async () => {
    await expect(endOperations(control, [hold], 'COMPENSATED')).rejects.toThrow(FenceLostError);
    expect((await read())?.status).toBe('RUNNING');
  });

  test('that was taken over obeys its new holder alone', async () => {
    const taken = await takeOver(control, hold.id);
    expect(taken).toMatchObject({ id: hold.id, fence: 2, status: 'RUNNING' });
    await expect(endOperations(control, [hold], 'SUCCEEDED')).rejects.toThrow(FenceLostError);
    await expect(startCompensation(control, hold, failure)).rejects.toThrow(FenceLostError);
    await endOperations(control, [taken!], 'SUCCEEDED');
    expect(await read()).toMatchObject({ status: 'SUCCEEDED', fence: 2 });
  });

  test('taken over by many at once has as many fences', async () => {
    const taken = await Promise.all(Array.from({ length: 8 }, () => takeOver(control, hold.id)));
    expect((await read())?.fence).toBe(9);
    expect(taken).not.toContain(null);
  });

  test('is known by the clock of the database', async () => {
    expect(await remainingMs(control, hold.id)).toBeGreaterThan(0);
    await world.query(
      `UPDATE control_plane.operations SET deadline_at = now() - interval '1 hour' WHERE id = $1`,
      [hold.id],
    );
    expect(await remainingMs(control, hold.id)).toBeLessThan(-3_500_000);
    expect(await remainingMs(control, randomUUID())).toBe(0);
  });
});

describe('listOperations', () => {
  const partner = 'lister';
  const day = (number: number) => new Date(Date.UTC(2026, 0, number));
  let tenants: string[];
  let ids: string[];

  beforeAll(async () => {
    tenants = await Promise.all([1, 2].map(() => insertTenantRow(world, { partner })));
    const ended = { status: 'SUCCEEDED', finished_at: day(9) };
    const rows = [
      { tenant: 0, ...ended, created_at: day(1) },
      { tenant: 0, kind: 'SUSPEND', ...ended, created_at: day(2) },
      { tenant: 0, kind: 'DELETE', created_at: day(3) },
      { tenant: 1, created_at: day(4) },
    ];
    ids = [];
    for (const { tenant, ...columns } of rows) {
      ids.push(await insertOperationRow(world, tenants[tenant]!, { partner, ...columns }));
    }
  });

  const whole = { limit: 100, backward: false };

  test.each<[string, () => Parameters<typeof listOperations>[2], number[]]>([
    ['all, newest first', () => ({}), [3, 2, 1, 0]],
    ['of a kind', () => ({ kind: ['SUSPEND', 'DELETE'] }), [2, 1]],
    ['in a status', () => ({ status: ['RUNNING'] }), [3, 2]],
    ['of a tenant', () => ({ tenantId: tenants[0]! }), [2, 1, 0]],
    ['of no tenant', () => ({ tenantId: randomUUID() }), []],
    ['of no batch', () => ({ batchId: randomUUID() }), []],
  ])('%s', async (_what, filter, expected) => {
    const page = await listOperations(control, { partner }, filter(), whole);
    expect(page.rows.map((row) => ids.indexOf(row.id))).toEqual(expected);
    expect(await page.countAll()).toBe(expected.length);
  });

  test('shows nothing to another partner', async () => {
    const stranger = { partner: 'stranger' };
    const page = await listOperations(control, stranger, { tenantId: tenants[0]! }, whole);
    expect(page.rows).toEqual([]);
    expect(await page.countAll()).toBe(0);
    expect(await findOperation(control, stranger, ids[0]!)).toBeNull();
  });
});
