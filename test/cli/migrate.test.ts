import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { parse, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { generateEncryptionKey } from '../../src/crypto/envelope.ts';
import { onServer, withDatabase } from '../control-template.ts';
import { runCli, runScript } from './run.ts';

const served = { ENCRYPTION_KEY: generateEncryptionKey(), AUTH_MODE: 'open' };

describe('migrate', () => {
  it('has nothing to do without DATABASE_URL, and says why', async () => {
    const { code, stdout, stderr } = await runCli('migrate');
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^DATABASE_URL: is not set; the embedded server .*migrated.*\n$/);
  });

  it('prints the problems of the settings', async () => {
    const { code, stderr } = await runCli('migrate', { ...served, DATABASE_URL: 'x', PORT: 'y' });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^PORT: .+\nDATABASE_URL: .+\n$/);
  });

  it.each([
    // Two addresses that both refuse come as one error without a text of its own.
    ['postgres://u:swordfish@localhost:1/d', /ECONNREFUSED/],
    ['postgres://u:swordfish@127.0.0.1:1/d', /ECONNREFUSED/],
    ['postgres://u:swordfish@nowhere.invalid/d', /nowhere\.invalid/],
  ])('says in one line that it cannot reach %s', async (DATABASE_URL, reason) => {
    const { code, stdout, stderr } = await runCli('migrate', { ...served, DATABASE_URL });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^The control plane was not migrated: .+\n$/);
    expect(stderr).toMatch(reason);
    expect(stderr).not.toContain('swordfish');
  });
});

describe('migrate, with a server', () => {
  const database = `test_migrate_${randomBytes(6).toString('hex')}`;
  const env = { ...served, DATABASE_URL: withDatabase(inject('serverUrl'), database) };
  const migrations = readdirSync(resolve(import.meta.dirname, '../../migrations')).sort();
  const newest = parse(migrations.at(-1)!).name;
  const done = {
    code: 0,
    stdout: `The control plane is at migration ${newest} (${migrations.length} in all).\n`,
    stderr: '',
  };

  beforeAll(() =>
    onServer(inject('serverUrl'), (client) => client.query(`CREATE DATABASE ${database}`)),
  );
  afterAll(() =>
    onServer(inject('serverUrl'), (client) =>
      client.query(`DROP DATABASE ${database} WITH (FORCE)`),
    ),
  );

  it('says what is wrong with the database', async () => {
    const { code, stderr } = await runCli('migrate', {
      ...served,
      DATABASE_URL: withDatabase(inject('serverUrl'), 'not_there'),
    });
    expect(code).toBe(1);
    expect(stderr).toBe(
      'The control plane was not migrated: database "not_there" does not exist\n',
    );
  });

  it('migrates an empty database, also twice at once, and again', async () => {
    expect(await Promise.all([runCli('migrate', env), runCli('migrate', env)])).toEqual([
      done,
      done,
    ]);
    expect(await runCli('migrate', env)).toEqual(done);
  });

  it('knows no other migrations than knex by hand', async () => {
    const { code, stdout } = await runScript(['node_modules/knex/bin/cli.js', 'migrate:list'], env);
    expect(code).toBe(0);
    expect(stdout).toContain(`Found ${migrations.length} Completed Migration file/files.`);
    expect(stdout).toContain('No Pending Migration files Found.');
  });
});
