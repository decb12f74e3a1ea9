import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { tenantLock } from '../../src/provisioning/names.ts';
import { onServer, withDatabase } from '../control-template.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { openProxy, type Proxy } from '../proxy.ts';
import { pointsOf, scriptFailpoints } from './failpoints.ts';
import { isolations } from './isolations.ts';
import { createTenant, makeTenant, placeOf, type Made } from './tenants.ts';
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
     WHERE application_name LIKE 'tenantry%' AND datname IN (current_database(), $1)`,
    [world.sharedDatabase],
  );
}

function once(action: () => Promise<void>): () => Promise<void> {
  let left = 1;
  return async () => {
    if (left-- > 0) await action();
  };
}

const points = isolations.flatMap(({ isolation, named }) =>
  [...pointsOf(isolation), 'commit:before'].map((point) => ({ isolation, named, point })),
);

test.each(points)(
  '$isolation: all connections cut at $point: the tenant is made all the same',
  async ({ named, point }) => {
    failpoints.at(point, once(cutAll));
    const made = await makeTenant(gateway, { name: `Cut at ${point}`, ...named });
    const rows = await endedEvents(world, made.operation.id);
    expectOrderly(rows);
    const traces = await tracesOf(world, made.operation.id);
    expect(traces.places).toEqual([placeOf(made)]);
    expect(traces.openJobs).toBe(0);
  },
);

describe('through a network that loses answers', () => {
  let proxy: Proxy;
  let unheard: TestGateway;
  beforeEach(async () => {
    proxy = await openProxy(world.controlUrl);
    unheard = await world.start({ settings: { DATABASE_URL: proxy.url }, failpoints });
  });
  afterEach(async () => {
    await unheard.close();
    await proxy.close();
  });

  async function expectMadeOnce(made: Made): Promise<void> {
    expectOrderly(await endedEvents(world, made.operation.id));
    expect((await tracesOf(world, made.operation.id)).openJobs).toBe(0);
  }

  test.each(isolations)(
    '$isolation: the answer to the last commit is lost: the tenant is made all the same',
    async ({ isolation, named }) => {
      failpoints.at('commit:before', async () => proxy.mute());
      const name = `Unheard ${isolation}`;
      const making = makeTenant(unheard, { name, ...named });
      await expect
        .poll(
          () => world.query('SELECT status FROM control_plane.tenants WHERE name = $1', [name]),
          { timeout: 15_000 },
        )
        .toEqual([{ status: 'ACTIVE' }]);
      failpoints.clear();
      proxy.cut();
      await expectMadeOnce(await making);
    },
  );

  test('the answer to the writing of events is lost: none is told twice', async () => {
    const count = async (sql: string): Promise<number> => (await world.query(sql)).length;
    const step = failpoints.hold('verify_connection:before');
    const before = await count('SELECT FROM control_plane.operation_events');
    let making!: Promise<Made>;
    await onServer(world.controlUrl, async (client) => {
      await client.query('SELECT pg_advisory_lock(7311, 1)'); // what writers of events take
      making = makeTenant(unheard, { name: 'Untold', isolation: 'SCHEMA' });
      await step.reached;
      await expect
        .poll(
          () =>
            count(`SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND classid = 7311
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`),
          { timeout: 15_000 },
        )
        .toBe(1);
      proxy.mute();
      await client.query('SELECT pg_advisory_unlock(7311, 1)');
    });
    await expect
      .poll(() => count('SELECT FROM control_plane.operation_events'), { timeout: 15_000 })
      .toBeGreaterThan(before);
    proxy.cut();
    step.release();
    await expectMadeOnce(await making);
  });
});

test.each(
  isolations.flatMap(({ isolation, named, createStep }) =>
    [createStep, 'create_role', 'reserve'].map((step) => ({ isolation, named, step })),
  ),
)(
  '$isolation: all connections cut while $step is undone: nothing is left',
  async ({ isolation, named, step }) => {
    failpoints.fail('verify_connection:before');
    failpoints.at(`${step}:compensate`, once(cutAll));
    const input = { name: `Cut while undoing ${step} of ${isolation}`, ...named };
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
             WHERE application_name LIKE 'tenantry%' AND datname IN (current_database(), $2)
               AND state = 'active' AND query LIKE '%' || $1 || '%'`,
            [statement, world.sharedDatabase],
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

  test('CREATE SCHEMA: it is tried again', async () => {
    blocker = new pg.Client(world.controlUrl);
    await blocker.connect();
    failpoints.at(
      'create_schema:before',
      once(async () => {
        const [row] = await world.query<{ owner: string; marker: string }>(
          `SELECT rolname AS owner, shobj_description(r.oid, 'pg_authid') AS marker
           FROM control_plane.tenant_databases JOIN pg_roles r ON rolname = owner_role
           WHERE status = 'PENDING'`,
        );
        const { marker, owner } = row!;
        await blocker.query(`BEGIN; COMMENT ON ROLE "${owner}" IS '${marker}'`);
      }),
    );
    const making = makeTenant(gateway, { name: 'Cut schema', isolation: 'SCHEMA' });
    await cutHeldUp('CREATE SCHEMA');
    await blocker.query('COMMIT');
    await expectMade(await making, 'create_schema');
  });

  async function expectMade(made: Made, retried: string): Promise<void> {
    const rows = await endedEvents(world, made.operation.id);
    expectOrderly(rows);
    expect(rows).toContainEqual(expect.objectContaining({ step: retried, status: 'RETRYING' }));
    const traces = await tracesOf(world, made.operation.id);
    expect(traces.places).toHaveLength(1);
    expect(traces.roles).toHaveLength(3);
  }
});
