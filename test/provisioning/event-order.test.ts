import { setTimeout as sleep } from 'node:timers/promises';
import type { Knex } from 'knex';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { takeOver } from '../../src/control/operations.ts';
import { openRegistry } from '../control/rows.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { scriptFailpoints } from './failpoints.ts';
import { createTenant } from './tenants.ts';
import { expectOrderly, type EventRow } from './traces.ts';

let world: World;
let control: Knex;
/** Holds up the writers of events. */
let session: pg.Client;

beforeAll(async () => {
  world = await createWorld();
  control = openRegistry(world);
  session = new pg.Client({ connectionString: world.controlUrl, application_name: 'test' });
  await session.connect();
});
afterAll(async () => {
  await session.end();
  await control.destroy();
  await world.close();
});

interface Row extends EventRow {
  readonly operationId: string;
  readonly fence: number;
}

const count = async (sql: string): Promise<number> => {
  const [row] = await world.query<{ count: number }>(`SELECT count(*)::int AS count FROM ${sql}`);
  return row!.count;
};
const open = 'control_plane.operations WHERE finished_at IS NULL';
const waiting = `pg_locks JOIN pg_stat_activity USING (pid)
  WHERE locktype = 'advisory' AND NOT granted AND classid = 7311 AND objid = 1
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`;

/** A takeover, and the events of older fences that there were once it was committed. */
interface Takeover {
  readonly id: string;
  readonly fence: number;
  readonly older: number;
}

async function olderEvents(id: string, fence: number): Promise<number> {
  const [row] = await world.query<{ count: number }>(
    `SELECT count(*)::int AS count FROM control_plane.operation_events
     WHERE operation_id = $1 AND fence < $2`,
    [id, fence],
  );
  return row!.count;
}

/** Takes operations over while events of theirs wait for their turn; leaves them to any instance. */
async function takeOverSome(control: Knex): Promise<Takeover[]> {
  await session.query('BEGIN');
  await session.query('SELECT pg_advisory_xact_lock(7311, 1)');
  await until(async () => (await count(waiting)) > 0);
  const running = await world.query<{ id: string }>(
    `SELECT id FROM control_plane.operations WHERE finished_at IS NULL AND fence < 4
     ORDER BY random() LIMIT 6`,
  );
  const taking = Promise.all(
    running.map(async ({ id }): Promise<Takeover[]> => {
      const taken = await takeOver(control, id);
      if (taken === null) return [];
      return [{ id, fence: taken.fence, older: await olderEvents(id, taken.fence) }];
    }),
  );
  const done = taking.then(() => Infinity);
  const queued = `${waiting} AND query LIKE '%fence + 1%'`; // behind the events
  await until(async () => (await Promise.race([done, count(queued)])) > 0);
  await session.query('COMMIT');
  const takeovers = (await taking).flat();
  await world.query(`UPDATE control_plane_jobs.job SET start_after = now() WHERE state < 'active'`);
  return takeovers;
}

/** Looks until something is so, for a second at most: it is stirred, not waited for. */
async function until(isSo: () => Promise<boolean>): Promise<void> {
  for (let looks = 0; looks < 50 && !(await isSo()); looks += 1) await sleep(20);
}

test('creations that are taken over while they run: each log is one story with one end', async () => {
  const failpoints = scriptFailpoints();
  failpoints.fail('create_role:before', 4);
  let reached = 0;
  for (const step of ['create_role', 'verify_connection', 'encrypt_credentials', 'activate']) {
    // Time to be taken over, and not all at once.
    failpoints.at(`${step}:after`, () => sleep(50 + ((reached += 137) % 600)));
  }
  const settings = { TAKEOVER_SECONDS: '1' };
  const gateways: TestGateway[] = [
    await world.start({ settings, failpoints }),
    await world.start({ settings, failpoints }),
  ];
  const operations = await Promise.all(
    Array.from({ length: 28 }, async (_, index) => {
      const isolation = index % 9 === 0 ? 'DATABASE' : 'SCHEMA';
      const input = { name: `Contested ${index}`, isolation, wait: false };
      const { operation } = await createTenant(gateways[index % 2]!, input);
      return operation!.id;
    }),
  );

  const takeovers: Takeover[] = [];
  while ((await count(open)) > 0) takeovers.push(...(await takeOverSome(control)));
  for (const gateway of gateways) await gateway.close(); // what they still have to write is written

  expect(takeovers.length).toBeGreaterThan(5);
  for (const { fence, id, older } of takeovers) {
    expect(await olderEvents(id, fence), 'none of an older fence after a takeover').toBe(older);
  }
  const rows = await world.query<Row>(
    `SELECT operation_id AS "operationId", fence::int, step, status, percent, message,
       operation_status AS "operationStatus"
     FROM control_plane.operation_events ORDER BY sequence`,
  );
  const logs = Map.groupBy(rows, ({ operationId }) => operationId);
  expect(new Set(logs.keys())).toEqual(new Set(operations));
  for (const log of logs.values()) {
    expectOrderly(log);
    const fences = log.map(({ fence }) => fence);
    expect(fences, 'no event of an older fence').toEqual(fences.toSorted((a, b) => a - b));
  }
}, 180_000);
