import type pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { dropFreeRoles } from '../../src/postgres/drop-roles.ts';
import { createTenantRoles, type AdminClient } from '../../src/postgres/roles.ts';
import { scramVerifier } from '../../src/postgres/scram.ts';
import { freshName, openAdmin, waitsForLock } from './admin.ts';

let admin: pg.Client & AdminClient;
let roles: { owner: string; login: string; service: string };
let lock: string;

beforeAll(async () => {
  admin = await openAdmin();
});
afterAll(() => admin.end());
beforeEach(() => {
  roles = { owner: freshName('own'), login: freshName('usr'), service: freshName('svc') };
  lock = freshName('lock');
});
afterEach(() => drop(admin));

const marker = "it's a marker";

async function create(client: pg.Client, changes: object = {}): Promise<void> {
  await createTenantRoles(client, roles, {
    verifier: await scramVerifier('password'),
    connectionLimit: 5,
    statementTimeoutMs: 1000,
    searchPath: ['public', 'extensions'],
    marker,
    lock,
    ...changes,
  });
}

/** As the undo of a step does: under the lock. */
async function drop(client: pg.Client & AdminClient): Promise<void> {
  await client.query('SELECT pg_advisory_lock(hashtextextended($1, 0))', [lock]);
  await dropFreeRoles(client, [roles.login, roles.service, roles.owner]);
  await client.query('SELECT pg_advisory_unlock(hashtextextended($1, 0))', [lock]);
}

async function existing(): Promise<unknown[]> {
  const { rows } = await admin.query<object>(
    `SELECT rolname AS name, rolcanlogin AS login, rolconnlimit AS "limit", rolconfig AS config,
            shobj_description(oid, 'pg_authid') AS marker
     FROM pg_roles WHERE rolname IN ($1, $2, $3) ORDER BY rolcanlogin, rolname`,
    [roles.owner, roles.login, roles.service],
  );
  return rows;
}

describe('createTenantRoles', () => {
  test('creates all three, or brings the login to the settings again', async () => {
    await create(admin);
    const once = await existing();
    expect(once).toMatchObject([
      { name: roles.owner, login: false, marker, config: null },
      { name: roles.service, login: false, marker, config: [`role=${roles.owner}`] },
      { name: roles.login, login: true, limit: 5, marker },
    ]);
    await create(admin, { connectionLimit: 7, statementTimeoutMs: 0, marker: 'another' });
    expect(await existing()).toMatchObject([
      { name: roles.owner, marker: 'another' },
      { name: roles.service },
      {
        name: roles.login,
        limit: 7,
        marker: 'another',
        config: expect.arrayContaining([
          'statement_timeout=0',
          'search_path=public, extensions',
        ]) as string[],
      },
    ]);
  });

  test('creates all or none', async () => {
    await expect(create(admin, { verifier: '\0' })).rejects.toThrow();
    await expect(create(admin, { connectionLimit: -2 })).rejects.toThrow();
    expect(await existing()).toEqual([]);
  });

  test('at once, twice: one waits for the other', async () => {
    const other = await openAdmin();
    await Promise.all([create(admin), create(other), create(admin)]);
    expect(await existing()).toHaveLength(3);
    await other.end();
  });
});

describe('dropFreeRoles', () => {
  test('waits for a making that was cut off and still goes on in the server', async () => {
    const making = await openAdmin();
    const undoing = await openAdmin();
    await making.query('BEGIN');
    await create(making);
    const undone = drop(undoing);
    await waitsForLock(admin, undoing);
    await making.query('COMMIT');
    await undone;
    expect(await existing()).toEqual([]);
    await Promise.all([making.end(), undoing.end()]);
  });
});
