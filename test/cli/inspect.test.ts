import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type World } from '../harness.ts';
import { asTenant, makeTenant, sealedConnection, type Made } from '../provisioning/tenants.ts';
import { runCli, startCli } from './run.ts';

let world: World;
let own: Made;
let other: Made;
let shared: Made;

beforeAll(async () => {
  world = await createWorld();
  const gateway = await world.start();
  other = await makeTenant(gateway, { name: 'Other' });
  shared = await makeTenant(gateway, { name: 'Shared', isolation: 'SCHEMA' });
  own = await makeTenant(gateway, { name: 'Own', slug: 'own' });
});
afterAll(() => world.close());

const settings = () => ({
  DATABASE_URL: world.controlUrl,
  ENCRYPTION_KEY: world.encryptionKey,
  AUTH_MODE: 'open',
});

/** What it says of a place: by the beginning of its line. */
function saidOf(output: string, label: string): string | undefined {
  const line = output.split('\n').find((one) => one.trim().startsWith(`${label} `));
  return line?.trim().slice(label.length).trim();
}

describe('npm run inspect', () => {
  test.for([
    ['the newest tenant', () => []],
    ['one by its slug', () => ['own']],
    ['one by its id', () => [own.tenant.id]],
  ] as const)('shows %s, and what its credentials open', async ([, args]) => {
    const { code, stderr, stdout } = await runCli('inspect', settings(), args());
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(saidOf(stdout, 'Tenant')).toBe(`Own (${own.tenant.id}), ACTIVE`);
    expect(saidOf(stdout, 'Tables')).toBe('activity_log, settings');
    expect(saidOf(stdout, own.tenant.database.databaseName)).toBe('opens');
    const control = new URL(world.controlUrl).pathname.slice(1);
    for (const closed of [control, 'template1', other.tenant.database.databaseName]) {
      expect(saidOf(stdout, closed)).toMatch(/^refused: permission denied for database/);
    }
    const sealed = await sealedConnection(world, own.tenant.id);
    expect(stdout).toContain(sealed!.slice(0, 24));
    expect(stdout).not.toContain(sealed);
    expect(stdout).not.toMatch(/postgres(ql)?:\/\//);
  });

  test('shows the schema of one that shares its database', async () => {
    const { stdout } = await runCli('inspect', settings(), [shared.tenant.id]);
    const { schemaName } = shared.tenant.database;
    expect(saidOf(stdout, 'Schema')).toBe(schemaName);
    expect(saidOf(stdout, `schema ${schemaName!}`)).toBe('opens');
  });

  test('shows names of tables so that none of them can act on a terminal', async () => {
    await asTenant(world, shared.tenant.id, (client) =>
      client.query(String.raw`CREATE TABLE U&"a\001b[31m\0007\000a\202e" ()`),
    );
    const { stdout } = await runCli('inspect', settings(), [shared.tenant.id]);
    expect(saidOf(stdout, 'Tables')).toBe(
      String.raw`a\u{1b}[31m\u{7}\u{a}\u{202e}, activity_log, settings`,
    );
    // eslint-disable-next-line no-control-regex -- what must not be there
    expect(stdout).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f-\x9f]/);
  });

  test('says that there is no such tenant', async () => {
    const result = await runCli('inspect', settings(), ['nobody']);
    expect(result).toEqual({ code: 1, stdout: '', stderr: 'There is no tenant nobody\n' });
  });

  test('ends well where only its beginning is read', async () => {
    const child = startCli('inspect', settings());
    child.stdout.once('data', () => child.stdout.destroy());
    const [stderr] = await Promise.all([text(child.stderr), once(child, 'exit')]);
    expect({ code: child.exitCode, stderr }).toEqual({ code: 0, stderr: '' });
  });
});
