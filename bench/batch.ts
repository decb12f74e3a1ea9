/**
 * How fast a batch of 50 tenants is made, and what it costs others meanwhile.
 *
 * - Tenants a second of `createTenantsBatch` over HTTP, without standbys and with 50 ready, beside bare
 *   `CREATE DATABASE` by 1, 2, 4 and 8 connections. They take turns, with a CHECKPOINT before each; the
 *   floor is the number of connections with the best median.
 * - A single `createTenant` every quarter of a second while such a batch runs, beside as many without one.
 *
 * All that a round has made is dropped before the next one.
 *
 * `npm run bench:batch -- --rounds 9`
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { median, publish, round, timed } from './figures.ts';
import { createTenant, openBenchServer, postGraphQL, standbysReady } from './server.ts';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '9' } } });
const rounds = Math.min(50, Math.max(3, Number(values.rounds)));
const size = 50;
const connections = [1, 2, 4, 8] as const;
/** Batches of a gateway before the first that counts: it is some 150 tenants old before it is at its speed. */
const warmUps = 3;
const paceMs = 250;
/** More creates than come into the longest batch: the loop ends whatever happens. */
const mostSingles = 100;

const batchMutation = `mutation ($input: CreateTenantsBatchInput!) {
  createTenantsBatch(input: $input) {
    batch { status results { tenant { id } apiKey } } userErrors { message }
  }
}`;

interface Result {
  readonly measure: string;
  readonly value: number;
  readonly floor: string;
  readonly floorValue: number;
  readonly unit: 'tenants/s' | 'ms';
  readonly ratio: number;
  /** The lowest and highest ratio of a round. */
  readonly spread: readonly [number, number];
  readonly goal: string;
  readonly reached: boolean;
}

const server = await openBenchServer();
const { client } = server;
let next = 0;
try {
  const results: Result[] = [];
  const measures = [
    () => rates('no standby', 0, 0.8),
    () => rates('standbys ready', size, 2),
    () => besides('no standby', 0),
    () => besides('4 standbys', 4),
  ];
  for (const measure of measures) {
    const result = await measure();
    console.log(`${result.measure}: ${result.ratio} (${result.spread.join(' to ')})`);
    results.push(result);
  }
  await publish('batch', results, table(results));
  if (results.some(({ reached }) => !reached)) process.exitCode = 1;
} finally {
  await server.close();
}

/** A gateway with this pool, and a session on its control plane. */
function withPool<T>(
  name: string,
  pool: number,
  work: (url: string, control: pg.Client) => Promise<T>,
): Promise<T> {
  const settings = { STANDBY_DATABASES: String(pool) };
  return server.withGatewayProcess(name, settings, async (url) => {
    const control = new pg.Client(server.url(name));
    control.on('error', () => undefined); // told by the query under way
    await control.connect();
    try {
      return await work(url, control);
    } finally {
      await control.end();
    }
  });
}

function rates(what: string, pool: number, goal: number): Promise<Result> {
  return withPool(`rates_${pool}`, pool, async (url, control) => {
    const batches: number[] = [];
    const bare = new Map<number, number[]>(connections.map((count) => [count, []]));
    for (let turn = -warmUps; turn < rounds; turn += 1) {
      for (const count of turn < 0 ? [0] : [0, ...connections]) {
        await standbysReady(control, pool);
        await client.query('CHECKPOINT');
        const work = count === 0 ? () => batch(url) : () => bareCreates(count);
        const perSecond = (1000 * size) / (await timed(work));
        await dropMade(control);
        if (turn < 0) continue;
        (count === 0 ? batches : bare.get(count))?.push(perSecond);
      }
    }
    const [best, floors] = [...bare].toSorted(([, a], [, b]) => median(b) - median(a))[0] ?? [
      1,
      [],
    ];
    const ratio = median(batches) / median(floors);
    const perRound = batches.map((rate, index) => rate / (floors[index] ?? NaN));
    return {
      measure: `batch of ${size}, DATABASE, ${what}`,
      value: round(median(batches)),
      floor: `bare CREATE DATABASE over ${best} connections`,
      floorValue: round(median(floors)),
      unit: 'tenants/s',
      ratio: round(ratio),
      spread: spreadOf(perRound),
      goal: `≥ ${goal}`,
      reached: ratio >= goal,
    };
  });
}

function besides(what: string, pool: number): Promise<Result> {
  return withPool(`besides_${pool}`, pool, async (url, control) => {
    const during: number[] = [];
    const idle: number[] = [];
    const perRound: number[] = [];
    for (let turn = -1; turn < rounds; turn += 1) {
      await standbysReady(control, pool);
      await client.query('CHECKPOINT');
      let over = false;
      const running = batch(url).finally(() => {
        over = true;
      });
      const beside = await singles(url, mostSingles, () => over);
      await running;
      await dropMade(control);

      await standbysReady(control, pool);
      await client.query('CHECKPOINT');
      const alone = await singles(url, beside.length, () => false);
      await dropMade(control);
      if (turn < 0) continue;
      during.push(...beside);
      idle.push(...alone);
      perRound.push(median(beside) / median(alone));
    }
    const ratio = median(during) / median(idle);
    return {
      measure: `createTenant, DATABASE, ${what}, during a batch of ${size}: p50`,
      value: round(median(during)),
      floor: 'the same without a batch',
      floorValue: round(median(idle)),
      unit: 'ms',
      ratio: round(ratio),
      spread: spreadOf(perRound),
      goal: '≤ 2',
      reached: ratio <= 2,
    };
  });
}

/** Creates one tenant after the other, each a while after the one before; their times. */
async function singles(url: string, most: number, isOver: () => boolean): Promise<number[]> {
  const times: number[] = [];
  for (;;) {
    await sleep(paceMs);
    if (times.length >= most || isOver()) return times;
    times.push(await timed(() => createTenant(url, { name: `single ${(next += 1)}` })));
  }
}

async function batch(url: string): Promise<void> {
  const tenants = Array.from({ length: size }, () => ({ name: `item ${(next += 1)}` }));
  const text = await postGraphQL(url, batchMutation, { input: { tenants } });
  if (!text.includes('"status":"SUCCEEDED"')) throw new Error(`the batch failed: ${text}`);
}

function bareCreates(count: number): Promise<void> {
  return overConnections(count, size, async (session) => {
    await session.query(`CREATE DATABASE bare_${(next += 1)}`);
  });
}

/** Does something so many times, by so many connections, each of which goes on when it has done one. */
async function overConnections(
  count: number,
  times: number,
  work: (session: pg.Client, index: number) => Promise<void>,
): Promise<void> {
  let begun = 0;
  await Promise.all(
    Array.from({ length: count }, async () => {
      const session = new pg.Client(server.url('postgres'));
      await session.connect();
      while (begun < times) await work(session, begun++);
      await session.end();
    }),
  );
}

/** Drops the databases and roles of all tenants of a control plane, and all bare copies. */
async function dropMade(control: pg.Client): Promise<void> {
  const { rows } = await control.query<{ database: string; roles: string[] }>(
    `WITH gone AS (
       UPDATE control_plane.tenant_databases SET status = 'DROPPED', connection_string_encrypted = NULL
       WHERE status <> 'DROPPED'
       RETURNING database_name, login_role, owner_role)
     SELECT database_name AS database, ARRAY[login_role, owner_role] AS roles FROM gone`,
  );
  const bare = await client.query<{ name: string }>(
    `SELECT datname AS name FROM pg_database WHERE datname LIKE 'bare\\_%'`,
  );
  const names = [...rows.map(({ database }) => database), ...bare.rows.map(({ name }) => name)];
  // Each drop waits for a checkpoint: together they wait for the same one.
  await overConnections(8, names.length, async (session, index) => {
    await session.query(`DROP DATABASE IF EXISTS "${names[index] ?? ''}" WITH (FORCE)`);
  });
  const roles = rows.flatMap((row) => row.roles.map((role) => `"${role}"`));
  if (roles.length > 0) await client.query(`DROP ROLE IF EXISTS ${roles.join(', ')}`);
}

function spreadOf(ratios: readonly number[]): readonly [number, number] {
  return [round(Math.min(...ratios)), round(Math.max(...ratios))];
}

function table(results: readonly Result[]): string {
  return [
    '| measure | median | beside | median | ratio | rounds | goal |',
    '| --- | --- | --- | --- | --- | --- | --- |',
    ...results.map(
      ({ measure, value, floor, floorValue, unit, ratio, spread, goal }) =>
        `| ${measure} | ${value} ${unit} | ${floor} | ${floorValue} ${unit} | ${ratio} | ${spread.join(' to ')} | ${goal} |`,
    ),
    '',
  ].join('\n');
}
