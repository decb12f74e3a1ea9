import { cp, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createWorld, type World } from '../harness.ts';
import { freshDirectory } from '../postgres/embedded/world.ts';
import {
  createTenant,
  endAll,
  onDatabase,
  startAndEnd,
  startGateway,
  type Settings,
} from './gateway-process.ts';

const own = resolve(import.meta.dirname, '../../tenant-migrations');
const nothing = 'export async function up() {}\n';
const failing = `export async function up(knex) { await knex.raw('select 1 / 0'); }\n`;

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterEach(endAll);
afterAll(() => world.close());

/** Settings with a folder that has our own migrations and these. */
async function withMigrations(files: Readonly<Record<string, string>>): Promise<Settings> {
  const folder = join(await freshDirectory(0o711), 'migrations');
  await cp(own, folder, { recursive: true });
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
  return { ...onDatabase(world.controlUrl), TENANT_MIGRATIONS_DIR: folder };
}

describe('TENANT_MIGRATIONS_DIR', () => {
  it.each([
    ['does not load', 'export const up = ;\n', /2999_new does not load: /],
    ['has no function up', 'export const down = 1;\n', /2999_new has no function up$/],
    [
      'sets transaction: false',
      `${nothing}export const config = { transaction: false };\n`,
      /2999_new sets transaction: false, which is refused$/,
    ],
  ])('with a file that %s is refused in one line', async (_what, text, message) => {
    const { code, stdout, stderr } = await startAndEnd(
      await withMigrations({ '2999_new.mjs': text }),
    );
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^TENANT_MIGRATIONS_DIR: .*\n$/);
    expect(stderr.trimEnd()).toMatch(message);
  });

  it('that is empty is refused in one line', async () => {
    const folder = await freshDirectory(0o711);
    const settings = { ...onDatabase(world.controlUrl), TENANT_MIGRATIONS_DIR: folder };
    const { code, stderr } = await startAndEnd(settings);
    expect(code).toBe(1);
    expect(stderr).toBe(
      `TENANT_MIGRATIONS_DIR: ${folder} has no migration, and REQUIRED_TENANT_TABLES asks for settings, activity_log\n`,
    );
  });

  it('with a file that was changed after it was applied is refused in one line', async () => {
    const settings = await withMigrations({ '2999_new.mjs': nothing });
    const first = await startGateway({ settings });
    await first.listening();
    first.signal('SIGTERM');
    await first.ended();

    await writeFile(
      join(settings['TENANT_MIGRATIONS_DIR']!, '2999_new.mjs'),
      `${nothing}// more\n`,
    );
    const { code, stderr } = await startAndEnd(settings);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^TENANT_MIGRATIONS_DIR: migration 2999_new was changed .*\n$/);
  });

  it('with a migration that fails does not keep the gateway from starting', async () => {
    const settings = await withMigrations({ '2999_new.mjs': nothing, '3000_failing.mjs': failing });
    const gateway = await startGateway({ settings });
    const url = await gateway.listening();
    expect(gateway.stdout()).toContain('the tenant migrations fail');
    expect(await createTenant(url, 'unlucky')).toMatchObject({
      status: 500,
      json: { detail: expect.stringContaining('3000_failing') as string },
    });
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
    expect(await world.leftovers()).toEqual({ databases: [], roles: [] });
  });
});
