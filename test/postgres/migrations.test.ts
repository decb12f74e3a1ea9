import type pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import { withDatabase } from '../control-template.ts';
import { connectionOptions } from '../../src/postgres/connection.ts';
import { isTransient } from '../../src/postgres/error-codes.ts';
import { makeMigrationFolder, type MigrationFolder } from '../provisioning/migration-folders.ts';
import {
  loadMigrations,
  migrate,
  MigrationError,
  type MigrateOptions,
} from '../../src/postgres/migrations.ts';
import { freshName, openAdmin } from './admin.ts';

let admin: pg.Client;
let folder: MigrationFolder;
let database: string;
let inside: pg.Client;

beforeAll(async () => {
  admin = await openAdmin();
});
afterAll(() => admin.end());
beforeEach(async () => {
  folder = await makeMigrationFolder();
  database = freshName();
  await admin.query(`CREATE DATABASE ${database}`);
  inside = await openAdmin(database);
});
afterEach(async () => {
  await inside.end();
  await admin.query(`DROP DATABASE ${database} WITH (FORCE)`);
  await folder.remove();
});

async function run(options: Partial<MigrateOptions> = {}): Promise<void> {
  const connection = { connectionString: withDatabase(inject('serverUrl'), database) };
  await migrate(await loadMigrations(folder.path), { connection, ...options });
}

/** Connection options whose session works as a role, as those of service logins do. */
function workingAs(role: string): pg.ClientConfig {
  return connectionOptions(withDatabase(inject('serverUrl'), database), {
    applicationName: 'test',
    statementTimeoutMs: 30_000,
    place: { searchPath: ['public', 'extensions'], role },
  });
}

async function tables(): Promise<string[]> {
  const { rows } = await inside.query<{ name: string }>(
    `SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'
     AND tablename NOT LIKE 'knex%' ORDER BY 1`,
  );
  return rows.map((row) => row.name);
}

async function ledger(): Promise<string[]> {
  const { rows } = await inside.query<{ name: string }>(
    'SELECT name FROM knex_migrations ORDER BY id',
  );
  return rows.map((row) => row.name);
}

describe('loadMigrations', () => {
  async function refusal(): Promise<MigrationError> {
    const error: unknown = await loadMigrations(folder.path).catch((reason: unknown) => reason);
    if (error instanceof MigrationError) return error;
    throw new Error('it was loaded', { cause: error });
  }

  test('takes every kind of module, in the order of the names, and nothing else', async () => {
    await folder.writeText('002_default.mjs', 'export default { up() {}, down() {} };');
    await folder.writeText('001_common.cjs', 'exports.up = () => {};');
    await folder.writeText(
      '003_typed.ts',
      'export async function up(knex: unknown): Promise<void> {}',
    );
    await folder.writeText('004_types.d.ts', 'export {};');
    await folder.writeText('README.md', 'not a migration');
    const set = await loadMigrations(folder.path);
    expect(set.files.map((file) => file.name)).toEqual(['001_common', '002_default', '003_typed']);
    expect(set.version).toBe('003_typed');
  });

  test('of nothing is a set without a version', async () => {
    expect(await loadMigrations(folder.path)).toMatchObject({ files: [], version: null });
  });

  test.each<[string, string, string, string]>([
    ['does not load', '001_bad.mjs', 'export const up = (', 'migration 001_bad does not load'],
    [
      'throws while it loads',
      '001_bad.mjs',
      'throw new Error("x")',
      'migration 001_bad does not load: x',
    ],
    [
      'has no up',
      '001_bad.mjs',
      'export const down = () => {}',
      'migration 001_bad has no function up',
    ],
    [
      'has an up that is none',
      '001_bad.mjs',
      'export const up = 1',
      'migration 001_bad has no function up',
    ],
    [
      'leaves its transaction',
      '001_bad.mjs',
      'export const config = { transaction: false }; export const up = () => {}',
      'migration 001_bad sets transaction: false, which is refused',
    ],
    [
      'leaves its transaction as a default export',
      '001_bad.mjs',
      'export default { config: { transaction: false }, up() {} }',
      'migration 001_bad sets transaction: false, which is refused',
    ],
  ])('refuses a file that %s, and names it', async (_what, file, text, message) => {
    await folder.writeText('000_good.mjs', 'export const up = () => {}');
    await folder.writeText(file, text);
    const error = await refusal();
    expect(error.message).toContain(message);
    expect(error.migration).toBe('001_bad');
  });

  test('refuses two files of one name', async () => {
    for (const ending of ['mjs', 'cjs']) {
      await folder.writeText(
        `001_twice.${ending}`,
        ending === 'mjs' ? 'export const up = () => {}' : 'exports.up = () => {}',
      );
    }
    expect(await refusal()).toMatchObject({
      migration: '001_twice',
      message: 'two migrations are called 001_twice',
    });
  });

  test('refuses a folder that is not there', async () => {
    await folder.remove();
    expect(await refusal()).toMatchObject({ migration: null });
  });

  test('knows a set by its content: a changed byte, a new name, another order', async () => {
    await folder.write('001_a', 'SELECT 1');
    const hashes = [(await loadMigrations(folder.path)).contentHash.toString('hex')];
    const change = async (name: string, sql: string): Promise<void> => {
      await folder.write(name, sql);
      hashes.push((await loadMigrations(folder.path)).contentHash.toString('hex'));
    };
    await change('001_a', 'SELECT 2');
    await change('002_b', 'SELECT 1');
    await change('002_b', 'SELECT 1 ');
    expect(new Set(hashes).size).toBe(4);
    await folder.write('002_b', 'SELECT 1');
    expect((await loadMigrations(folder.path)).contentHash.toString('hex')).toBe(hashes[2]);
  });
});

describe('migrate', () => {
  test('runs what is missing, once', async () => {
    await folder.write('001_a', 'CREATE TABLE a ()');
    await run();
    await run();
    await folder.write('002_b', 'CREATE TABLE b ()');
    await run();
    expect(await tables()).toEqual(['a', 'b']);
    expect(await ledger()).toEqual(['001_a', '002_b']);
  });

  test('many at once take turns', async () => {
    await folder.write('001_a', 'CREATE TABLE a ()');
    await Promise.all([run(), run(), run(), run()]);
    expect(await ledger()).toEqual(['001_a']);
  });

  test('names the migration that fails and undoes it; the ones before stay', async () => {
    await folder.write('001_a', 'CREATE TABLE a ()');
    await folder.write('002_bad', 'CREATE TABLE b (); SELECT nonsense');
    await expect(run()).rejects.toMatchObject({ code: 'MIGRATION', migration: '002_bad' });
    expect(await tables()).not.toContain('b');
    await folder.write('003_c', 'CREATE TABLE c ()');
    await expect(run()).rejects.toMatchObject({ migration: '002_bad' });
  });

  test('does not blame a migration for a connection that broke', async () => {
    await folder.write('001_cut', 'SELECT pg_terminate_backend(pg_backend_pid())');
    const error: unknown = await run().catch((reason: unknown) => reason);
    expect(error).not.toBeInstanceOf(MigrationError);
    expect(isTransient(error)).toBe(true);
  });

  test('releases the lock of a run that was killed', async () => {
    await folder.write('001_a', 'CREATE TABLE a ()');
    await run();
    await inside.query('UPDATE knex_migrations_lock SET is_locked = 1');
    await folder.write('002_b', 'CREATE TABLE b ()');
    await run();
    expect(await tables()).toEqual(['a', 'b']);
  });

  test('waits for a run that was cut off and still goes on in the server', async () => {
    await folder.write('001_a', 'CREATE TABLE a ()');
    await folder.write('002_slow', 'SELECT pg_advisory_lock(42); CREATE TABLE b ()');
    const gate = await openAdmin(database);
    await gate.query('SELECT pg_advisory_lock(42)');
    const cut = new AbortController();
    const first = run({ signal: cut.signal }).catch((error: unknown) => error);
    await expect.poll(waiting).toBe(1);
    cut.abort(new Error('cut'));
    expect(await first).toMatchObject({ message: 'cut' });
    const second = run();
    await expect.poll(waiting).toBe(2); // the first one for the gate, the second for the first
    await gate.end();
    await second;
    expect(await tables()).toEqual(['a', 'b']);
    expect(await ledger()).toEqual(['001_a', '002_slow']);
  });

  test('does not begin once it was aborted', async () => {
    await folder.write('001_a', 'CREATE TABLE a ()');
    await expect(run({ signal: AbortSignal.abort(new Error('late')) })).rejects.toThrow('late');
    expect(await tables()).toEqual([]);
  });

  test('makes everything as the role that should own it, in the schema that keeps the ledger', async () => {
    const role = freshName('role');
    await folder.write('001_a', 'CREATE TABLE a ()');
    await admin.query(`CREATE ROLE ${role}`);
    await inside.query(
      `CREATE SCHEMA ledger AUTHORIZATION ${role}; GRANT ALL ON SCHEMA public TO ${role}`,
    );
    await run({ connection: workingAs(role), ledgerSchema: 'ledger' });
    await inside.query('UPDATE ledger.knex_migrations_lock SET is_locked = 1');
    await run({ connection: workingAs(role), ledgerSchema: 'ledger' });
    const { rows } = await inside.query(
      `SELECT DISTINCT schemaname AS schema, tableowner AS owner FROM pg_tables
       WHERE schemaname IN ('public', 'ledger') ORDER BY 1`,
    );
    expect(rows).toEqual([
      { schema: 'ledger', owner: role },
      { schema: 'public', owner: role },
    ]);
    await inside.query(`DROP OWNED BY ${role}`);
    await admin.query(`DROP ROLE ${role}`);
  });

  /** How many sessions wait for an advisory lock of this database. */
  async function waiting(): Promise<number> {
    const { rows } = await inside.query<{ count: number }>(
      `SELECT count(*)::int FROM pg_locks JOIN pg_database d ON d.oid = database
       WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()`,
    );
    return rows[0]!.count;
  }
});
