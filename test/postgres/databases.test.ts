import type pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  closeAsTemplate,
  closeToPublic,
  createClosedDatabase,
  databaseSize,
  databaseStrategies,
  dropDatabase,
  findDatabase,
  openDatabase,
} from '../../src/postgres/databases.ts';
import type { AdminClient } from '../../src/postgres/roles.ts';
import { freshName, openAdmin } from './admin.ts';

let admin: pg.Client & AdminClient;
let name: string;
let owner: string;

beforeAll(async () => {
  admin = await openAdmin();
});
afterAll(() => admin.end());
beforeEach(async () => {
  name = freshName();
  owner = freshName('own');
  await admin.query(`CREATE ROLE ${owner}`);
});
afterEach(async () => {
  await dropDatabase(admin, name);
  await admin.query(`DROP ROLE ${owner}`);
});

const marker = `it's a "marker"`;

function open(finalName = name): Promise<void> {
  return openDatabase(admin, { name, finalName, owner, marker });
}

async function publicRights(): Promise<string[]> {
  const { rows } = await admin.query<{ right: string }>(
    `SELECT privilege_type AS right FROM pg_database,
       aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE datname = $1 AND grantee = 0`,
    [name],
  );
  return rows.map((row) => row.right);
}

test.each(databaseStrategies)(
  'createClosedDatabase lets nobody in, strategy %s',
  async (strategy) => {
    await createClosedDatabase(admin, { name, strategy });
    expect(await findDatabase(admin, name)).toEqual({
      marker: null,
      allowsConnections: false,
      halfDropped: false,
    });
    await expect(openAdmin(name)).rejects.toMatchObject({ code: '55000' });
    expect(await databaseSize(admin, name)).toBeGreaterThan(1_000_000);
  },
);

test('nothing is known of a database that is not there', async () => {
  expect(await findDatabase(admin, name)).toBeNull();
  expect(await databaseSize(admin, name)).toBeNull();
});

describe('openDatabase', () => {
  beforeEach(() => createClosedDatabase(admin, { name, strategy: 'WAL_LOG' }));

  test('marks it, takes every right from PUBLIC, and lets connections in', async () => {
    await open();
    await open(); // once more, as an operation that is resumed does
    expect(await findDatabase(admin, name)).toEqual({
      marker,
      allowsConnections: true,
      halfDropped: false,
    });
    expect(await publicRights()).toEqual([]);
    await (await openAdmin(name)).end();
  });

  test('is all or nothing: a final name that is taken leaves it closed and unmarked', async () => {
    await expect(open('postgres')).rejects.toMatchObject({ code: '42P04' });
    expect(await findDatabase(admin, name)).toEqual({
      marker: null,
      allowsConnections: false,
      halfDropped: false,
    });
    expect(await findDatabase(admin, 'postgres')).not.toMatchObject({ marker });
  });

  test('gives it its final name, whatever characters are in it', async () => {
    const finalName = `${name}-"'ä`;
    await open(finalName);
    expect(await findDatabase(admin, name)).toBeNull();
    expect(await findDatabase(admin, finalName)).toMatchObject({ marker });
    await dropDatabase(admin, finalName);
  });
});

describe('dropDatabase', () => {
  test('of one that is not there is fine', async () => {
    await dropDatabase(admin, name);
  });

  test('of one half dropped by a drop that was cut off', async () => {
    await createClosedDatabase(admin, { name, strategy: 'WAL_LOG' });
    await open();
    // What an interrupted DROP DATABASE leaves behind; only a superuser may write it.
    await admin.query(`UPDATE pg_database SET datconnlimit = -2 WHERE datname = $1`, [name]);
    expect(await findDatabase(admin, name)).toMatchObject({ halfDropped: true });
    await expect(openAdmin(name)).rejects.toMatchObject({ code: '55000' });
    await dropDatabase(admin, name);
    expect(await findDatabase(admin, name)).toBeNull();
  });

  test('of a template, and of one with sessions', async () => {
    await createClosedDatabase(admin, { name, strategy: 'WAL_LOG' });
    await open();
    const session = await openAdmin(name);
    await session.query('BEGIN; CREATE TABLE held ()');
    await admin.query(`ALTER DATABASE ${name} IS_TEMPLATE true`);
    await dropDatabase(admin, name, { roles: [owner] });
    expect(await findDatabase(admin, name)).toBeNull();
    await expect(session.query('SELECT 1')).rejects.toThrow();
    await session.end();
  });

  test('tells what blocks it', async () => {
    await createClosedDatabase(admin, { name, strategy: 'WAL_LOG' });
    await open();
    const inside = await openAdmin(name);
    await inside.query(
      'CREATE TABLE t (); CREATE SUBSCRIPTION s CONNECTION $$dbname=x$$ PUBLICATION p WITH (connect = false, slot_name = NONE)',
    );
    await inside.end();
    await expect(dropDatabase(admin, name)).rejects.toMatchObject({
      name: 'PassingError',
      message: `database "${name}" cannot be dropped: a subscription; its owner has to run in database "${name}": ALTER SUBSCRIPTION "s" DISABLE; ALTER SUBSCRIPTION "s" SET (slot_name = NONE); DROP SUBSCRIPTION "s"`,
    });
    // Closed it stays, though: nobody comes in while the drop is tried again.
    expect(await findDatabase(admin, name)).toMatchObject({ allowsConnections: false });
    await admin.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS true`);
    const again = await openAdmin(name);
    await again.query('DROP SUBSCRIPTION s');
    await again.end();
  });
});

test('closeAsTemplate ends the admin’s own sessions, so that it can be copied', async () => {
  await createClosedDatabase(admin, { name, strategy: 'WAL_LOG' });
  await open();
  const lingering = await openAdmin(name);
  await closeAsTemplate(admin, name);
  const copy = freshName();
  await createClosedDatabase(admin, { name: copy, template: name, strategy: 'WAL_LOG' });
  await dropDatabase(admin, copy);
  await lingering.end();
});

describe('closeToPublic', () => {
  beforeEach(() => admin.query(`CREATE DATABASE ${name}`));

  test('takes the right to connect from everybody, and says nothing is left', async () => {
    expect(await publicRights()).toContain('CONNECT');
    expect(await closeToPublic(admin, [name, 'no_such_database'])).toEqual([]);
    expect(await publicRights()).toEqual([]);
    expect(await closeToPublic(admin, [name])).toEqual([]);
  });

  test('tells which it may not close: the server only warns', async () => {
    await admin.query(`GRANT CONNECT ON DATABASE ${name} TO ${owner}`);
    await admin.query(`SET ROLE ${owner}`);
    try {
      expect(await closeToPublic(admin, [name])).toEqual([name]);
    } finally {
      await admin.query('RESET ROLE');
    }
  });

  test('by many at once', async () => {
    const admins = await Promise.all(Array.from({ length: 8 }, () => openAdmin()));
    try {
      for (let round = 0; round < 5; round += 1) {
        await admin.query(`GRANT CONNECT ON DATABASE ${name} TO PUBLIC`);
        const open = await Promise.all(admins.map((client) => closeToPublic(client, [name])));
        expect(open.flat()).toEqual([]);
      }
    } finally {
      await Promise.all(admins.map((client) => client.end()));
    }
  });
});
