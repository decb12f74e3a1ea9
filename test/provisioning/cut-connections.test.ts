import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { tenantLock } from '../../src/provisioning/names.ts';
import { withDatabase } from '../control-template.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { runningSteps, scriptFailpoints } from './failpoints.ts';
import { createTenant, makeTenant, type Made } from './tenants.ts';
import { endedEvents, expectNothingLeft, expectOrderly, tracesOf } from './traces.ts';

const failpoints = scriptFailpoints();
let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({ failpoints });
});
afterEach(() => failpoints.clear());
afterAll(() => world.close());

/** Ends every session of the gateway on the server, as a restart or a failover would. */
async function cutAll(): Promise<void> {
  await world.query(
    `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
     WHERE application_name LIKE 'tenantry%' AND datname = current_database()`,
  );
}

function once(action: () => Promise<void>): () => Promise<void> {
  let left = 1;
  return async () => {
    if (left-- > 0) await action();
  };
}

const points = runningSteps.flatMap((step) => [`${step}:before`, `${step}:after`]);

test.each(points)('all connections cut at %s: the tenant is made all the same', async (point) => {
  failpoints.at(point, once(cutAll));
  const made = await makeTenant(gateway, { name: `Cut at ${point}`, databaseNaming: 'SLUG' });
  const rows = await endedEvents(world, made.operation.id);
  expectOrderly(rows);
  const traces = await tracesOf(world, made.operation.id);
  expect(traces.places).toEqual([made.tenant.database.databaseName]);
  expect(traces.openJobs).toBe(0);
});

test.each(['create_database', 'create_role', 'reserve'])(
  'all connections cut while %s is undone: nothing is left',
  async (step) => {
    failpoints.fail('verify_connection:before');
    failpoints.at(`${step}:compensate`, once(cutAll));
    const input = { name: `Cut while undoing ${step}`, databaseNaming: 'SLUG' };
    const payload = await createTenant(gateway, input);
    await expectNothingLeft(world, gateway, payload.operation!.id);
    expectOrderly(await endedEvents(world, payload.operation!.id));
    failpoints.clear();
    await makeTenant(gateway, input);
  },
);

describe('the connection is cut in the midst of', () => {
  let blocker: pg.Client;
  afterEach(() => blocker.end());

  /** Ends the session whose statement is held up, once there is one. */
  async function cutHeldUp(statement: string): Promise<void> {
    await expect
      .poll(
        () =>
          world.query(
            `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
             WHERE application_name LIKE 'tenantry%' AND datname = current_database()
               AND state = 'active' AND query LIKE '%' || $1 || '%'`,
            [statement],
          ),
        { timeout: 15_000 },
      )
      .toHaveLength(1);
  }

  test('CREATE ROLE: it is tried again', async () => {
    blocker = new pg.Client(world.controlUrl);
    await blocker.connect();
    failpoints.at(
      'create_role:before',
      once(async () => {
        const [row] = await world.query<{ id: string }>(
          `SELECT id FROM control_plane.tenants WHERE status = 'PROVISIONING'`,
        );
        await blocker.query('SELECT pg_advisory_lock(hashtextextended($1, 0))', [
          tenantLock(row!.id),
        ]);
      }),
    );
    const making = makeTenant(gateway, { name: 'Cut roles' });
    await cutHeldUp('CREATE ROLE');
    await blocker.query('SELECT pg_advisory_unlock_all()');
    await expectMade(await making, 'create_role');
  });

  test('CREATE DATABASE: it is tried again', async () => {
    const [template] = await world.query<{ name: string }>(
      'SELECT database_name AS name FROM control_plane.templates',
    );
    const setOpen = (open: boolean) =>
      world.query(`ALTER DATABASE "${template!.name}" ALLOW_CONNECTIONS ${String(open)}`);
    await setOpen(true);
    blocker = new pg.Client(withDatabase(world.controlUrl, template!.name));
    await blocker.connect();
    await setOpen(false);
    const making = makeTenant(gateway, { name: 'Cut database' });
    await cutHeldUp('CREATE DATABASE');
    await blocker.end();
    await expectMade(await making, 'create_database');
  });

  async function expectMade(made: Made, retried: string): Promise<void> {
    const rows = await endedEvents(world, made.operation.id);
    expectOrderly(rows);
    expect(rows).toContainEqual(expect.objectContaining({ step: retried, status: 'RETRYING' }));
    const traces = await tracesOf(world, made.operation.id);
    expect(traces.places).toHaveLength(1);
    expect(traces.roles).toHaveLength(2);
  }
});
