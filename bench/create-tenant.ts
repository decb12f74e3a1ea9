/**
 * How long a caller waits for `createTenant` over HTTP, beside the bare statements of PostgreSQL on the
 * same embedded server. Each measure is interleaved with its floor, with a CHECKPOINT before every 15
 * pairs: machines differ and servers slow down as their buffers fill, so only the ratio of the medians
 * says something.
 *
 * `npm run bench -- --pairs 45`
 */
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import knexPackage from 'knex';
import pg from 'pg';
import { report, timed, type Figure } from './figures.ts';
import { createTenant, openBenchServer, standbysReady } from './server.ts';

const { values } = parseArgs({ options: { pairs: { type: 'string', default: '45' } } });
const pairs = Math.min(500, Math.max(15, Number(values.pairs)));
const warmUp = 25;
const standbys = 2;
const tenantMigrations = fileURLToPath(new URL('../tenant-migrations', import.meta.url));

const server = await openBenchServer();
const { client } = server;
let next = 0;
/** Of a gateway's connections; the session that keeps the embedded server is not one of them. */
const sessionNames = ['control plane', 'listen', 'verification']
  .map((name) => `tenantry ${name}`)
  .concat('tenantry');

try {
  await report('create-tenant', [
    await databases('standby ready', standbys, 0.6),
    await databases('no standby', 0, 2.2),
    await naive(),
    await schemas(),
    await manyMigrations(),
    await oneAfterTheOther(),
  ]);
} finally {
  await server.close();
}

/** Runs the two alternately, and leaves out the first rounds. */
async function interleaved(
  rounds: number,
  work: () => Promise<unknown>,
  floor: () => Promise<unknown>,
  before: () => Promise<unknown> = () => Promise.resolve(),
): Promise<Pick<Figure, 'times' | 'floorTimes'>> {
  const times: number[] = [];
  const floorTimes: number[] = [];
  for (let round = 0; round < rounds + warmUp; round += 1) {
    if (round % 15 === 0) await client.query('CHECKPOINT');
    await before();
    const time = await timed(work);
    await before();
    const floorTime = await timed(floor);
    if (round < warmUp) continue;
    times.push(time);
    floorTimes.push(floorTime);
  }
  return { times, floorTimes };
}

async function inDatabase<T>(name: string, work: (session: pg.Client) => Promise<T>): Promise<T> {
  const session = new pg.Client(server.url(name));
  session.on('error', () => undefined); // told by the query under way
  await session.connect();
  try {
    return await work(session);
  } finally {
    await session.end();
  }
}

/** A database as scripts make it; answers with its open connection, to be destroyed. */
async function migratedByHand(database: string): Promise<knexPackage.Knex> {
  await client.query(`CREATE DATABASE ${database}`);
  const knex = knexPackage.knex({
    client: 'pg',
    connection: server.url(database),
    migrations: { directory: tenantMigrations, loadExtensions: ['.ts'] },
  });
  await knex.migrate.latest();
  return knex;
}

/** The template of the floors: with the same tables as the gateway's own, which is made with more care. */
async function templateByHand(): Promise<string> {
  const name = `by_hand_${(next += 1)}`;
  await (await migratedByHand(name)).destroy();
  return name;
}

async function bareCopy(template: string): Promise<void> {
  next += 1;
  await client.query(`CREATE DATABASE bare_${next} TEMPLATE "${template}"`);
}

function databases(what: string, pool: number, goal: number): Promise<Figure> {
  const name = `databases_${pool}`;
  const settings = { STANDBY_DATABASES: String(pool) };
  return server.withGateway(name, settings, (url) =>
    inDatabase(name, async (control) => {
      const template = await templateByHand();
      return {
        measure: `createTenant, DATABASE, ${what}`,
        floor: 'bare CREATE DATABASE … TEMPLATE',
        goal,
        ...(await interleaved(
          pairs,
          () => createTenant(url, { name: `bench ${(next += 1)}` }),
          () => bareCopy(template),
          () => standbysReady(control, pool),
        )),
      };
    }),
  );
}

/** What a script does that knows no template: create, migrate with Knex, connect, write. */
function naive(): Promise<Figure> {
  return server.withGateway('naive', {}, async () => {
    const template = await templateByHand();
    const script = async (): Promise<void> => {
      const database = `naive_${(next += 1)}`;
      const knex = await migratedByHand(database);
      await knex('settings').insert({ key: 'name', value: JSON.stringify(database) });
      await knex.destroy();
    };
    return {
      measure: 'the naive way: create, migrate with Knex, connect, insert',
      floor: 'bare CREATE DATABASE … TEMPLATE',
      ...(await interleaved(15, script, () => bareCopy(template))),
    };
  });
}

function bareSchema(name: string): string {
  return `BEGIN;
  CREATE SCHEMA ${name};
  CREATE TABLE ${name}.knex_migrations (id serial PRIMARY KEY, name varchar(255), batch integer,
    migration_time timestamptz);
  CREATE TABLE ${name}.knex_migrations_lock (index serial PRIMARY KEY, is_locked integer);
  INSERT INTO ${name}.knex_migrations_lock (is_locked) VALUES (0);
  CREATE TABLE ${name}.settings (key varchar(100) PRIMARY KEY, value jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now());
  CREATE TABLE ${name}.activity_log (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    action varchar(100) NOT NULL, entity_type varchar(50), entity_id uuid, details jsonb,
    created_at timestamptz NOT NULL DEFAULT now());
  INSERT INTO ${name}.knex_migrations (name, batch, migration_time)
    VALUES ('1', 1, now()), ('2', 1, now());
  COMMIT`;
}

function schemas(): Promise<Figure> {
  const settings = { STANDBY_SCHEMAS: String(standbys) };
  return server.withGateway('schemas', settings, (url) =>
    inDatabase('schemas', async (control) => {
      await standbysReady(control, standbys); // the shared database is there
      return inDatabase('schemas_shared', async (shared) => ({
        measure: 'createTenant, SCHEMA, standby ready',
        floor: 'one transaction of the bare DDL',
        goal: 4,
        ...(await interleaved(
          pairs,
          () => createTenant(url, { name: `bench ${(next += 1)}`, isolation: 'SCHEMA' }),
          () => shared.query(bareSchema(`bare_${(next += 1)}`)),
          () => standbysReady(control, standbys),
        )),
      }));
    }),
  );
}

/** 50 tenant migrations, of which 40 make a table, beside the 2 that there are. */
async function manyMigrations(): Promise<Figure> {
  const folder = await mkdtemp(join(tmpdir(), 'tenantry-bench-migrations-'));
  try {
    await cp(tenantMigrations, folder, { recursive: true });
    for (let number = 0; number < 48; number += 1) {
      const sql =
        number < 38
          ? `CREATE TABLE extra_${number} (id bigint PRIMARY KEY, note text)`
          : `ALTER TABLE extra_${number - 38} ADD COLUMN more text`;
      const up = `export const up = (knex) => knex.raw(${JSON.stringify(sql)});\n`;
      await writeFile(join(folder, `3000_${String(number).padStart(2, '0')}.mjs`), up);
    }
    const settings = { STANDBY_SCHEMAS: String(standbys) };
    const many = { ...settings, TENANT_MIGRATIONS_DIR: folder };
    return await server.withGateway('few', settings, (fewUrl) =>
      server.withGateway('many', many, (manyUrl) =>
        inDatabase('few', (few) =>
          inDatabase('many', async (control) => ({
            measure: 'createTenant, SCHEMA, standby ready, 50 tenant migrations',
            floor: 'the same with 2',
            goal: 1.15,
            ...(await interleaved(
              pairs,
              () => createTenant(manyUrl, { name: `bench ${(next += 1)}`, isolation: 'SCHEMA' }),
              () => createTenant(fewUrl, { name: `bench ${(next += 1)}`, isolation: 'SCHEMA' }),
              async () => {
                await standbysReady(control, standbys);
                await standbysReady(few, standbys);
              },
            )),
          })),
        ),
      ),
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** 200 creates: the last 20 beside the first 20; no login, and after the gateway's end nothing, stays. */
async function oneAfterTheOther(): Promise<Figure> {
  const settings = { STANDBY_DATABASES: String(standbys) };
  const times: number[] = [];
  await server.withGateway('long', settings, (url) =>
    inDatabase('long', async (control) => {
      for (let round = 0; round < 200 + warmUp; round += 1) {
        if (round % 15 === 0) await client.query('CHECKPOINT');
        await standbysReady(control, standbys);
        const time = await timed(() => createTenant(url, { name: `bench ${(next += 1)}` }));
        if (round >= warmUp) times.push(time);
      }
      await standbysReady(control, standbys);
      await nobodyLeft('tenantry verification');
    }),
  );
  await nobodyLeft(...sessionNames);
  return {
    measure: 'createTenant, DATABASE: the last 20 of 200',
    floor: 'the first 20',
    goal: 1.15,
    times: times.slice(-20),
    floorTimes: times.slice(0, 20),
  };
}

/** Rejects when sessions of these names stay. */
async function nobodyLeft(...names: string[]): Promise<void> {
  for (let tries = 0; tries < 100; tries += 1) {
    const { rows } = await client.query(
      'SELECT FROM pg_stat_activity WHERE application_name = ANY ($1)',
      [names],
    );
    if (rows.length === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`connections are left over: ${names.join(', ')}`);
}
