import pg from 'pg';
import { inject } from 'vitest';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openControl } from '../../src/control/database.ts';
import {
  brokenConstraint,
  codeOf,
  isTransient,
  PassingError,
} from '../../src/postgres/error-codes.ts';
import { freshName, openAdmin } from './admin.ts';

let client: pg.Client;

beforeAll(async () => {
  client = await openAdmin();
});
afterAll(() => client.end());

async function errorOf(work: Promise<unknown>): Promise<unknown> {
  const result: unknown = await work.then(
    () => 'no error',
    (error: unknown) => error,
  );
  if (result === 'no error') throw new Error('it did not fail');
  return result;
}

/** What the server says when a session raises this code. */
function raised(code: string, message = 'raised'): Promise<unknown> {
  return errorOf(
    client.query(`DO $$ BEGIN RAISE EXCEPTION '${message}' USING ERRCODE = '${code}'; END $$`),
  );
}

describe('isTransient, of the server’s errors', () => {
  test.each([
    '40001',
    '40P01',
    '53300',
    '55006',
    '55P03',
    '57P01',
    '57P02',
    '57P03',
    '08000',
    '08001',
    '08003',
    '08004',
    '08006',
    '08P01',
  ])('%s may pass', async (code) => {
    const error = await raised(code);
    expect(codeOf(error)).toBe(code);
    expect(isTransient(error)).toBe(true);
  });

  test.each([
    '23505',
    '42P04',
    '42710',
    '42501',
    '3D000',
    '28P01',
    '57014',
    '53100',
    '53200',
    '22001',
    'P0001',
    'XX000',
  ])('%s does not', async (code) => {
    expect(isTransient(await raised(code))).toBe(false);
  });

  test.each([
    ['tuple concurrently updated', true],
    ['tuple concurrently deleted', true],
    ['cache lookup failed for relation 1', false],
  ])('XX000 %s: %s', async (message, passes) => {
    expect(isTransient(await raised('XX000', message))).toBe(passes);
  });
});

describe('isTransient, of what clients say', () => {
  test('a session that was ended under way', async () => {
    const victim = await openAdmin();
    const { rows } = await victim.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    const failing = errorOf(victim.query('SELECT pg_sleep(60)'));
    await expect
      .poll(async () => {
        const { rows: ended } = await client.query<{ ended: boolean }>(
          `SELECT pg_terminate_backend(pid) AS ended FROM pg_stat_activity
           WHERE pid = $1 AND query LIKE '%pg_sleep%' AND state = 'active'`,
          [rows[0]!.pid],
        );
        return ended[0]?.ended;
      })
      .toBe(true);
    expect(isTransient(await failing)).toBe(true);
    // And what the same client says afterwards.
    expect(isTransient(await errorOf(victim.query('SELECT 1')))).toBe(true);
    await victim.end();
  });

  test('a session that was ended while a transaction of Knex had it', async () => {
    const connection = { connectionString: inject('serverUrl') };
    const knex = openControl({ connection, poolMax: 1, poolTimeoutMs: 5000 });
    const error = await errorOf(
      knex.transaction((trx) => trx.raw('SELECT pg_terminate_backend(pg_backend_pid())')),
    );
    expect(String(error)).toContain(' - '); // Knex writes the statement in front
    expect(isTransient(error)).toBe(true);
    await knex.destroy();
  });

  test('a server that is not there', async () => {
    const url = new URL(inject('serverUrl'));
    url.port = '1';
    expect(isTransient(await errorOf(new pg.Client(url.href).connect()))).toBe(true);
    url.hostname = 'localhost'; // perhaps two addresses, and an error for each
    expect(isTransient(await errorOf(new pg.Client(url.href).connect()))).toBe(true);
  });

  test('a pool that is busy, of node-postgres and of Knex', async () => {
    const connectionString = inject('serverUrl');
    const pool = new pg.Pool({ connectionString, max: 1 });
    const held = await pool.connect();
    pool.options.connectionTimeoutMillis = 20;
    expect(isTransient(await errorOf(pool.query('SELECT 1')))).toBe(true);
    held.release();
    await pool.end();

    const knex = openControl({ connection: { connectionString }, poolMax: 1, poolTimeoutMs: 2000 });
    await knex.transaction(async () => {
      expect(isTransient(await errorOf(knex.raw('SELECT 1')))).toBe(true);
    });
    await knex.destroy();
  });

  test.each<[string, unknown, boolean]>([
    ['a PassingError', new PassingError('gone'), true],
    ['every address refused', new AggregateError([refused(), refused()]), true],
    ['one address refused, one wrong', new AggregateError([refused(), new Error('no')]), false],
    ['an empty aggregate', new AggregateError([]), false],
    ['an ordinary error', new Error('no'), false],
    ['a text about connections', new Error('The Connection terminated'), false],
    ['a code that is no text', Object.assign(new Error('no'), { code: 55006 }), false],
    ['nothing', undefined, false],
    ['null', null, false],
    ['a text', '55006', false],
  ])('%s', (_what, error, passes) => {
    expect(isTransient(error)).toBe(passes);
  });
});

function refused(): Error {
  return Object.assign(new Error('refused'), { code: 'ECONNREFUSED' });
}

test('brokenConstraint names the constraint of a unique violation, and of nothing else', async () => {
  const table = freshName();
  await client.query(
    `CREATE TEMPORARY TABLE ${table} (id int CONSTRAINT only_one UNIQUE, n int CONSTRAINT few CHECK (n < 9));
     INSERT INTO ${table} VALUES (1, 1)`,
  );
  const insert = (values: string) =>
    errorOf(client.query(`INSERT INTO ${table} VALUES (${values})`));
  expect(brokenConstraint(await insert('1, 1'))).toBe('only_one');
  expect(brokenConstraint(await insert('2, 9'))).toBeUndefined();
  expect(brokenConstraint(new Error('23505'))).toBeUndefined();
  expect(brokenConstraint(null)).toBeUndefined();
});
