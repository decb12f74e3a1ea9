import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { migrateControl } from '../../src/control/migrate.ts';
import { connectionOptions } from '../../src/postgres/connection.ts';
import { createWorld, type World } from '../harness.ts';
import { makeTenant } from '../provisioning/tenants.ts';

const folder = fileURLToPath(new URL('../../migrations', import.meta.url));
let world: World;

// A limited admin's control plane is empty to begin with.
beforeEach(async () => {
  world = await createWorld({ admin: 'limited' });
});
afterEach(() => world.close());

function migrate(): Promise<string | null> {
  return migrateControl(
    connectionOptions(world.controlUrl, { applicationName: 'test', statementTimeoutMs: 30_000 }),
    folder,
  );
}

async function ledger(): Promise<string[]> {
  const rows = await world.query<{ name: string }>(
    'SELECT name FROM control_plane.knex_migrations ORDER BY id',
  );
  return rows.map((row) => row.name);
}

test('many instances that migrate an empty control plane at once take turns', async () => {
  await Promise.all([migrate(), migrate(), migrate(), migrate()]);
  const applied = await ledger();
  expect(applied).toEqual([...new Set(applied)].toSorted());
  await migrate();
  expect(await ledger()).toEqual(applied);
});

test('a lock that a killed instance left is no hindrance', async () => {
  await migrate();
  await world.query('UPDATE control_plane.knex_migrations_lock SET is_locked = 1');
  await world.query(
    `DELETE FROM control_plane.knex_migrations WHERE name = (
       SELECT max(name) FROM control_plane.knex_migrations)`,
  );
  // What it made is there already: it runs again, and fails for that reason, not for the lock.
  await expect(migrate()).rejects.toMatchObject({ code: 'MIGRATION' });
});

test('gateways that start at once on an empty control plane all start, and work', async () => {
  const gateways = await Promise.all([world.start(), world.start(), world.start()]);
  for (const [index, gateway] of gateways.entries()) {
    await makeTenant(gateway, { name: `First ${index}` });
  }
});
