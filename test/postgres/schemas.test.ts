import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type pg from 'pg';
import type { AdminClient } from '../../src/postgres/roles.ts';
import { createSchema, dropSchema, findSchema, schemaSize } from '../../src/postgres/schemas.ts';
import { freshName, openAdmin, waitsForLock } from './admin.ts';

type Session = pg.Client & AdminClient;

const database = { name: freshName('test_shared'), marker: 'tenantry:1:shared:x' };
const marker = 'tenantry:1:tenant:x:y';
const markerPrefix = 'tenantry:1:tenant:x:';
let server: Session;
let client: Session;
let name: string;
let owner: string;
let login: string;
const group = freshName('group');

beforeAll(async () => {
  server = await openAdmin();
  await server.query(`CREATE DATABASE ${database.name}`);
  // Other suites look for open databases that carry a marker.
  await server.query(`REVOKE ALL ON DATABASE ${database.name} FROM PUBLIC`);
  client = await openAdmin(database.name);
  await server.query(`CREATE ROLE ${group};
    GRANT CONNECT, TEMPORARY ON DATABASE ${database.name} TO ${group}`);
});
afterAll(async () => {
  await client.end();
  await server.query(`DROP DATABASE ${database.name} WITH (FORCE)`);
  await server.query(`DROP ROLE ${group}`);
  await server.end();
});

beforeEach(async () => {
  name = freshName('Schema');
  owner = freshName('own');
  login = freshName('usr');
  await client.query(`CREATE ROLE ${owner}; CREATE ROLE ${login} IN ROLE ${owner}`);
});
afterEach(async () => {
  await client.query(`DROP SCHEMA IF EXISTS "${name}" CASCADE`);
  await client.query(`DROP OWNED BY ${login}, ${owner}`);
  await client.query(`DROP ROLE ${login}, ${owner}`);
});

const place = () => ({
  name,
  database,
  owner,
  login,
  searchPath: [name, 'extensions'],
  group,
  marker,
  markerPrefix,
});

const drop = () => ({
  ...place(),
  roles: [login, owner],
  blockerPrefix: 'tenantry:1:',
  observe: (look: (observer: AdminClient) => Promise<void>) => look(server),
});

/** Makes things in the schema as its owner role. */
async function fill(sql: string): Promise<void> {
  await client.query(`SET ROLE ${owner}; SET search_path = "${name}"; ${sql};
    RESET search_path; RESET ROLE`);
}

async function connectsTo(): Promise<boolean> {
  const { rows } = await client.query<{ connects: boolean }>(
    `SELECT EXISTS (SELECT FROM pg_database, aclexplode(datacl) WHERE datname = $1
       AND grantee = to_regrole($2) AND privilege_type = 'CONNECT') AS connects`,
    [database.name, owner],
  );
  return rows[0]!.connects;
}

describe('dropSchema', () => {
  test.each<[string, string]>([
    ['nothing', 'SELECT 1'],
    [
      'hundreds of tables that refer to each other',
      `DO $$ BEGIN
         CREATE TABLE t0 (id int PRIMARY KEY);
         FOR i IN 1..300 LOOP
           EXECUTE format('CREATE TABLE t%s (id serial PRIMARY KEY, up int REFERENCES t%s)', i, i - 1);
         END LOOP;
       END $$`,
    ],
    [
      'a table of hundreds of partitions',
      `DO $$ BEGIN
         CREATE TABLE p (id int GENERATED ALWAYS AS IDENTITY, PRIMARY KEY (id)) PARTITION BY RANGE (id);
         FOR i IN 1..200 LOOP
           EXECUTE format('CREATE TABLE p%s PARTITION OF p FOR VALUES FROM (%s) TO (%s)', i, i, i + 1);
         END LOOP;
       END $$`,
    ],
    [
      'a hundred tables with identity columns',
      `DO $$ BEGIN
         FOR i IN 1..100 LOOP
           EXECUTE format('CREATE TABLE "T %s" (id int GENERATED ALWAYS AS IDENTITY)', i);
         END LOOP;
       END $$`,
    ],
    [
      'a hundred of everything else',
      `DO $$ BEGIN
         FOR i IN 1..100 LOOP
           EXECUTE format('CREATE TYPE "e''%s" AS ENUM (''a'')', i);
           EXECUTE format('CREATE TYPE c%s AS (e "e''%s")', i, i);
           EXECUTE format('CREATE DOMAIN d%s AS c%s', i, i);
           EXECUTE format('CREATE FUNCTION f%s(c%s, d%s) RETURNS int LANGUAGE sql AS ''SELECT 1''', i, i, i);
           EXECUTE format('CREATE PROCEDURE p%s() LANGUAGE sql AS ''SELECT 1''', i);
           EXECUTE format('CREATE AGGREGATE a%s(int) (sfunc = int4pl, stype = int)', i);
           EXECUTE format('CREATE OPERATOR ==%s (function = int4eq, leftarg = int, rightarg = int)',
             repeat('=', i % 60) || repeat('<', i / 60));
           EXECUTE format('CREATE VIEW v%s AS SELECT f%s(NULL, NULL)', i, i);
           EXECUTE format('CREATE MATERIALIZED VIEW m%s AS SELECT 1 AS a, 2 AS b', i);
           EXECUTE format('CREATE STATISTICS s%s ON a, b FROM m%s', i, i);
           EXECUTE format('CREATE SEQUENCE q%s', i);
           EXECUTE format('CREATE COLLATION l%s (locale = ''C'')', i);
           EXECUTE format('CREATE TEXT SEARCH CONFIGURATION x%s (COPY = pg_catalog.simple)', i);
         END LOOP;
       END $$`,
    ],
  ])('drops %s', async (_what, sql) => {
    await createSchema(client, place());
    await fill(sql);
    await dropSchema(client, drop());
    expect(await findSchema(client, name)).toBeNull();
    expect(await connectsTo()).toBe(false);
    const { rows } = await client.query(
      `SELECT FROM pg_shdepend WHERE refobjid = to_regrole($1) AND deptype = 'o'`,
      [owner],
    );
    expect(rows).toEqual([]);
    await dropSchema(client, drop()); // asked for twice, it is as well
  });

  test('does so in batches, each a transaction of its own', async () => {
    await createSchema(client, place());
    await fill(`DO $$ BEGIN
      FOR i IN 1..120 LOOP EXECUTE format('CREATE TABLE t%s ()', i); END LOOP; END $$`);
    const reader = await openAdmin(database.name);
    await reader.query(`BEGIN; LOCK TABLE "${name}".t1 IN ACCESS SHARE MODE`); // the oldest
    const dropping = dropSchema(client, drop());
    await waitsForLock(server, client);
    const { rows } = await reader.query(
      `SELECT count(*)::int AS left FROM pg_class WHERE relnamespace = $1::regnamespace`,
      [`"${name}"`],
    );
    expect(rows).toEqual([{ left: 20 }]);
    await reader.query('COMMIT');
    await dropping;
    await reader.end();
    expect(await findSchema(client, name)).toBeNull();
  });

  test.each([
    ['no marker', 'NULL'],
    ['another tenant’s marker', `'tenantry:1:tenant:z:y'`],
  ])('leaves a schema with %s as it is', async (_what, comment) => {
    await client.query(`CREATE SCHEMA "${name}" CREATE TABLE kept ()`);
    await client.query(`COMMENT ON SCHEMA "${name}" IS ${comment}`);
    await dropSchema(client, drop());
    expect(await schemaSize(client, name)).toBe(0);
  });

  test('waits for a statement that makes the schema, and drops what it made', async () => {
    const slow = await openAdmin(database.name);
    await slow.query('BEGIN');
    await createSchema(slow, place());
    const dropping = dropSchema(client, drop());
    await waitsForLock(server, client);
    await slow.query('COMMIT');
    await slow.end();
    await dropping;
    expect(await findSchema(client, name)).toBeNull();
  });
});

test('createSchema makes nothing once the owner role is gone', async () => {
  const gone = { ...place(), owner: freshName('own') };
  await expect(createSchema(client, gone)).rejects.toMatchObject({ code: '42704' });
  expect(await findSchema(client, name)).toBeNull();
});

test('many schemas are made and dropped at once: none fails', async () => {
  const sessions = await Promise.all(Array.from({ length: 8 }, () => openAdmin(database.name)));
  const places = sessions.map((_, index) => {
    const each = `${name}_${index}`;
    return { ...place(), name: each, owner: each, login: each };
  });
  for (const each of places) await client.query(`CREATE ROLE "${each.owner}"`);
  await Promise.all(sessions.map((session, index) => createSchema(session, places[index]!)));
  await Promise.all(
    sessions.map((session, index) =>
      dropSchema(session, { ...drop(), ...places[index]!, roles: [places[index]!.owner] }),
    ),
  );
  for (const each of places) await client.query(`DROP ROLE "${each.owner}"`);
  await Promise.all(sessions.map((session) => session.end()));
});
