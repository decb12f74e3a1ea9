/**
 * Real gateway processes, a real server, and what may happen to them. After each fault the same end state
 * has to come, by itself: see end-state.ts. FAULTS=full runs more of each; FAULT_SEED repeats the choices.
 */
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { tenantMarker } from '../../src/provisioning/names.ts';
import { withDatabase } from '../control-template.ts';
import { pointsOf, undoneSteps } from '../provisioning/failpoints.ts';
import { isolations, type IsolationCase } from '../provisioning/isolations.ts';
import { makeMigrationFolder } from '../provisioning/migration-folders.ts';
import { openProxy } from './proxy.ts';
import { mountSmallDisk, unmountSmallDisks } from './small-disk.ts';
import { chance } from './random.ts';
import { record, table } from './table.ts';
import { create, gone, openWorld, type Answer, type Gateway, type World } from './world.ts';

const full = process.env['FAULTS'] === 'full';
const minutes = Number(process.env['FAULT_MINUTES'] ?? 0);
const random = chance();
const cleanWithinMs = 30_000;

let world: World;
/** Goes on when another one is killed. */
let survivor: Gateway;
let count = 0;

beforeAll(async () => {
  console.log(`FAULT_SEED=${random.seed}`);
  world = await openWorld();
  survivor = await world.start();
});
afterAll(async () => {
  console.log(table());
  await world.close();
  await unmountSmallDisks();
});

/** Input of a tenant that nobody else asks for. */
function newTenant(what: string, named: object) {
  count += 1;
  const slug = `fault-${count}`;
  return { name: what, slug, idempotencyKey: slug, ...named };
}

/** The end state comes, and the same request again makes, or finds, the one tenant. */
async function expectClean(
  fault: string,
  inputs: readonly { readonly slug: string }[],
  by: Gateway = survivor,
): Promise<void> {
  const { left, ms } = await world.settle(cleanWithinMs);
  record(fault, Math.max(1, inputs.length), left.length, ms);
  expect(left.slice(0, 5).join('\n'), `left behind by: ${fault}`).toBe('');
  for (const input of inputs) {
    const again = await create(by, input);
    expect(again, `asked again after: ${fault}`).toMatchObject({
      tenant: { status: 'ACTIVE', slug: input.slug },
      userErrors: [],
    });
    const rows = await world.rows(
      `SELECT FROM control_plane.tenants WHERE slug = $1 AND status NOT IN ('FAILED', 'PURGED')`,
      [input.slug],
    );
    expect(rows, 'one tenant').toHaveLength(1);
  }
}

/** One create stopped at each of these points, in one gateway that is then killed. */
async function killAt(
  points: readonly string[],
  named: object,
  settings: Record<string, string> = {},
) {
  const { FAILPOINTS: further = '', ...others } = settings;
  const pauses = points.map((point) => `${point}=pause*1`);
  const victim = await world.start({ FAILPOINTS: [further, ...pauses].join(';'), ...others });
  const inputs = points.map((point) => newTenant(`killed at ${point}`, named));
  for (const [index, point] of points.entries()) {
    void create(victim, inputs[index]!);
    await victim.reached(point);
  }
  await victim.kill();
  return inputs;
}

/** The points after `reserve`, in the order in which an operation comes to them. */
function inOrder(isolation: IsolationCase['isolation']): string[] {
  return pointsOf(isolation).flatMap((point) => {
    if (point === 'create_database:after') return ['create_database:inside', point];
    return point === 'activate:after' ? ['commit:before', point] : [point];
  });
}

const around = ['reserve:before', 'reserve:inside', 'reserve:after'];

describe.each(isolations)('$isolation', ({ isolation, named }) => {
  const prepared = inOrder(isolation).filter((point) => !point.endsWith('e:inside'));
  const points = [...around, ...prepared];
  const all = [...around, ...inOrder(isolation)];
  const undo = undoneSteps('verify_connection', isolation).flatMap((step) => [
    `${step}:compensate`,
    `${step}:compensated`,
  ]);

  test('kill -9 in every step', async () => {
    await expectClean(`kill -9, ${isolation}`, await killAt(all, named));
  });

  test('kill -9 in every step, with standbys', async () => {
    const standbys = { STANDBY_DATABASES: '3', STANDBY_SCHEMAS: '3' };
    const inputs = await killAt(points, { isolation }, standbys);
    await expectClean(`kill -9 with standbys, ${isolation}`, inputs);
  });

  test('kill -9 while it is undone', async () => {
    const settings = { FAILPOINTS: 'verify_connection:before=throw' };
    await expectClean(`kill -9 in compensation, ${isolation}`, await killAt(undo, named, settings));
  });

  test.runIf(full).each(all)('kill -9, alone, at %s', async (point) => {
    const victim = await world.start({ FAILPOINTS: `${point}=crash` });
    const input = newTenant(`crashed at ${point}`, named);
    await create(victim, input);
    await gone(victim);
    await expectClean(`kill -9 alone, ${isolation}`, [input]);
  });

  test.runIf(full).each(undo)('kill -9, alone, at %s', async (point) => {
    const victim = await world.start({
      FAILPOINTS: `verify_connection:before=throw;${point}=crash`,
    });
    const input = newTenant(`crashed at ${point}`, named);
    await create(victim, input);
    await gone(victim);
    await expectClean(`kill -9 alone in compensation, ${isolation}`, [input]);
  });

  const restarts = (full ? pointsOf(isolation) : [random.pick(pointsOf(isolation))]).flatMap(
    (point) => (['fast', 'immediate'] as const).map((mode) => [point, mode] as const),
  );
  test.each(restarts)('the server is restarted at %s: %s', async (point, mode) => {
    const gateway = await world.start({ FAILPOINTS: `${point}=throw-passing*4` });
    const input = newTenant(`restarted at ${point}`, named);
    const creating = create(gateway, input);
    await gateway.reached(point);
    await world.restart(mode);
    await creating;
    await expectClean(`server restarted, ${mode}`, [input], gateway);
    expect(await gateway.stop()).toBe(0);
  });

  test('a compensation that fails twice', async () => {
    const failing = undoneSteps('verify_connection', isolation).map(
      (step) => `${step}:compensate=throw*2`,
    );
    const gateway = await world.start({
      FAILPOINTS: ['verify_connection:before=throw*1', ...failing].join(';'),
    });
    const input = newTenant('undone at the third try', named);
    expect(await create(gateway, input)).toMatchObject({
      tenant: null,
      userErrors: [{ code: 'PROVISIONING_FAILED' }],
    });
    await expectClean('a compensation fails twice', [input]);
    await gateway.stop();
  });

  test('a stalled instance wakes after its operation was undone', async () => {
    for (const point of full ? pointsOf(isolation) : ['create_role:before']) {
      const gateway = await world.start({
        FAILPOINTS: `${point}=throw-passing*3`,
        SCHEMA_CREATION_TIMEOUT: '4',
      });
      const input = newTenant(`stalled at ${point}`, named);
      const creating = create(gateway, input);
      await gateway.reached(point);
      gateway.signal('SIGSTOP');
      const ended = async () => {
        const rows = await world.rows<{ open: boolean }>(
          `SELECT o.finished_at IS NULL AS open FROM control_plane.operations o
           JOIN control_plane.tenants t ON t.id = o.tenant_id WHERE t.slug = $1`,
          [input.slug],
        );
        return rows.some(({ open }) => !open);
      };
      await expect.poll(ended, { timeout: 30_000, interval: 200 }).toBe(true);
      gateway.signal('SIGCONT');
      await creating;
      await expectClean('a stalled instance wakes', [input]);
      expect(await gateway.stop()).toBe(0);
    }
  });
});

const mixed = isolations.map(({ named }) => named);
const besideOperations = [
  'standby:recorded',
  'standby:made',
  'reconcile:before',
  'reconcile:after',
];

test('kill -9 in recovery: another one takes it over from there', async () => {
  for (const point of ['takeover:before', 'takeover:after', 'activate:before', 'commit:before']) {
    expect(await survivor.stop()).toBe(0);
    const inputs = await killAt(['create_role:after'], random.pick(mixed));
    const second = await world.start({ FAILPOINTS: `${point}=crash` });
    await gone(second);
    survivor = await world.start();
    await expectClean('kill -9 in recovery', inputs);
  }
});

test('kill -9, with default settings: taken over within 30 s', async () => {
  // The product's own: see docs/configuration.md.
  const defaults = { TAKEOVER_SECONDS: '20', SCHEMA_CREATION_TIMEOUT: '60' };
  expect(await survivor.stop()).toBe(0);
  survivor = await world.start(defaults);
  const inputs = await killAt(['create_role:after'], random.pick(mixed), defaults);
  await expectClean('takeover with default settings', inputs);
});

test('kill -9 while standbys are made and clusters are compared', async () => {
  // Whoever compares, or makes standbys, keeps the others from it: nobody else does it here.
  expect(await survivor.stop()).toBe(0);
  for (const [index, point] of besideOperations.entries()) {
    const count = String(index + 1);
    const settings = { STANDBY_DATABASES: count, STANDBY_SCHEMAS: count };
    const victim = await world.start({ FAILPOINTS: `${point}=crash`, ...settings });
    await gone(victim);
    const keeper = await world.start(settings);
    await expectClean('kill -9 beside operations', [], keeper);
    expect(await keeper.stop()).toBe(0);
  }
  survivor = await world.start();
});

test('kill -9 while what an undone operation left is dropped', async () => {
  const failing = await world.start({ FAILPOINTS: 'verify_connection:before=throw' });
  const input = newTenant('left an orphan', { isolation: 'DATABASE' });
  const failed = await create(failing, input);
  expect(await failing.stop()).toBe(0);
  const [left] = await world.rows<{ role: string; tenant: string; installation: string }>(
    `SELECT d.owner_role AS role, d.tenant_id AS tenant, i.id AS installation
     FROM control_plane.operations o JOIN control_plane.tenant_databases d USING (tenant_id),
       control_plane.installation i WHERE o.id = $1`,
    [failed!.operation!.id],
  );
  const { installation, role, tenant } = left!;
  expect(await survivor.stop()).toBe(0);
  await world.rows(`CREATE ROLE "${role}"`);
  const marker = tenantMarker(tenant, failed!.operation!.id, installation);
  await world.rows(`COMMENT ON ROLE "${role}" IS '${marker}'`);
  await gone(await world.start({ FAILPOINTS: 'reconcile:drop=crash' }));
  survivor = await world.start();
  await expectClean('kill -9 while an orphan is dropped', [input]);
});

test('pg_terminate_backend on each connection', async () => {
  const inputs = Array.from({ length: full ? 30 : 12 }, () => newTenant('cut', random.pick(mixed)));
  const creating = Promise.all(inputs.map((input) => create(survivor, input)));
  const state = { busy: true };
  void creating.finally(() => (state.busy = false));
  while (state.busy) {
    const pids = await world.rows<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'tenantry%' ORDER BY pid`,
    );
    if (pids.length > 0) {
      await world.rows('SELECT pg_terminate_backend($1)', [random.pick(pids).pid]);
    }
    await new Promise((resolve) => setTimeout(resolve, 20 + random.below(60)));
  }
  await expectClean('pg_terminate_backend', inputs);
});

test.each(['stall', 'cut'] as const)('the network: %s', async (fault) => {
  const proxy = await openProxy(Number(new URL(world.url).port));
  const behind = new URL(world.url);
  behind.port = String(proxy.port);
  const gateway = await world.start({ DATABASE_URL: behind.href });
  const inputs = Array.from({ length: 6 }, () => newTenant(`network ${fault}`, random.pick(mixed)));
  const creating = Promise.all(inputs.map((input) => create(gateway, input)));
  await new Promise((resolve) => setTimeout(resolve, 50 + random.below(250)));
  proxy[fault]();
  await new Promise((resolve) => setTimeout(resolve, 4_000));
  proxy.resume();
  await creating;
  // Their connection strings lead through the proxy: it stays until they were tried.
  await expectClean(`network: ${fault}`, inputs);
  expect(await gateway.stop()).toBe(0);
  await proxy.close();
  const name = `network ${fault}`;
  await world.rows(`SELECT FROM control_plane.tenants WHERE name = $1`, [name]);
});

test('connection slots used up', async () => {
  const inputs = Array.from({ length: 4 }, () => newTenant('no slots', random.pick(mixed)));
  const held: pg.Client[] = [];
  for (;;) {
    const client = new pg.Client({ connectionString: world.url, application_name: 'hog' });
    client.on('error', () => undefined);
    if (
      !(await client.connect().then(
        () => true,
        () => false,
      ))
    )
      break;
    held.push(client);
  }
  const creating = Promise.all(inputs.map((input) => create(survivor, input)));
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  for (const client of held) await client.end();
  await creating;
  await expectClean('slots used up', inputs);
});

test('the template is in use', async () => {
  const [template] = await world.rows<{ name: string }>(
    'SELECT database_name AS name FROM control_plane.templates',
  );
  await world.rows(`ALTER DATABASE "${template!.name}" ALLOW_CONNECTIONS true`);
  const session = new pg.Client(withDatabase(world.url, template!.name));
  await session.connect();
  const input = newTenant('template in use', { isolation: 'DATABASE' });
  const creating = create(survivor, input);
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  await session.end();
  await world.rows(`ALTER DATABASE "${template!.name}" ALLOW_CONNECTIONS false`);
  expect(await creating).toMatchObject({ tenant: { status: 'ACTIVE' } });
  await expectClean('template in use', [input]);
});

test('the disk is full', async () => {
  const disk = await mountSmallDisk();
  if (disk === null) {
    console.log('DISK FULL: not tried, a tmpfs cannot be mounted here');
    return;
  }
  const [template] = await world.rows<{ name: string }>(
    'SELECT database_name AS name FROM control_plane.templates',
  );
  // A database is made where its template is.
  await world.rows(`CREATE TABLESPACE small LOCATION '${disk.path}'`);
  await world.rows(`ALTER DATABASE "${template!.name}" SET TABLESPACE small`);
  await disk.fill();
  const input = newTenant('disk full', { isolation: 'DATABASE' });
  expect(await create(survivor, input)).toMatchObject({
    tenant: null,
    userErrors: [{ code: 'PROVISIONING_FAILED' }],
  });
  await disk.empty();
  await expectClean('disk full', [input]);
  await world.rows(`ALTER DATABASE "${template!.name}" SET TABLESPACE pg_default`);
});

test.each(['lock_timeout', 'statement_timeout'] as const)('%s', async (setting) => {
  const inputs = [newTenant(setting, { isolation: 'SCHEMA' })];
  await world.rows(`ALTER ROLE CURRENT_USER SET ${setting} = '300ms'`);
  const gateway = await world.start({ SCHEMA_CREATION_TIMEOUT: '6' });
  const blocker = new pg.Client(world.url);
  await blocker.connect();
  try {
    // What whoever makes a schema locks.
    await blocker.query('BEGIN; SET LOCAL statement_timeout = 0');
    await blocker.query(
      `SELECT description FROM pg_shdescription WHERE description LIKE '%:shared:%' FOR UPDATE`,
    );
    const creating = create(gateway, inputs[0]!);
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    await blocker.query('ROLLBACK');
    await creating;
  } finally {
    await blocker.end();
    await world.rows(`ALTER ROLE CURRENT_USER RESET ${setting}`);
  }
  await gateway.stop();
  await expectClean(setting, inputs);
});

test.each([
  ['fails', 'SELECT 1 / 0'],
  ['hangs', 'SELECT pg_sleep(600)'],
])('a tenant migration that %s', async (what, sql) => {
  const folder = await makeMigrationFolder();
  await folder.write('001_tables', 'CREATE TABLE settings (); CREATE TABLE activity_log ()');
  await folder.write('002_bad', sql);
  const gateway = await world.start({
    TENANT_MIGRATIONS_DIR: folder.path,
    SCHEMA_CREATION_TIMEOUT: '4',
  });
  const inputs = isolations.map(({ named }) => newTenant(`migration ${what}`, named));
  const answers = await Promise.all(inputs.map((input) => create(gateway, input)));
  for (const answer of answers) expect(answer).toMatchObject({ tenant: null });
  await gateway.stop();
  await expectClean(`a migration ${what}`, inputs);
  await folder.remove();
});

describe('two instances', () => {
  let other: Gateway;
  beforeAll(async () => {
    other = await world.start();
  });
  const either = (index: number): Gateway => (index % 2 === 0 ? survivor : other);

  test('50 equal requests race for one slug: one tenant', async () => {
    const { idempotencyKey: _, ...input } = newTenant('raced for', random.pick(mixed));
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_none, index) => create(either(index), input)),
    );
    const made = answers.filter((answer) => answer?.tenant?.status === 'ACTIVE');
    expect(made).toHaveLength(1);
    for (const answer of answers.filter((one) => one?.tenant === null)) {
      expect(answer?.userErrors).toMatchObject([{ code: 'TAKEN' }]);
    }
    await expectClean('50 equal requests', []);
  });

  test('20 equal idempotency keys, one instance killed: one tenant, one key', async () => {
    const victim = await world.start({ FAILPOINTS: 'create_role:after=pause*1' });
    const input = newTenant('asked for twenty times', random.pick(mixed));
    const first = create(victim, input);
    await victim.reached('create_role:after');
    const others = Array.from({ length: 19 }, (_none, index) =>
      create(index % 2 === 0 ? victim : survivor, input),
    );
    await victim.kill();
    const answers = (await Promise.all([first, ...others])).filter((one): one is Answer => {
      return one !== null;
    });
    expect(answers.length).toBeGreaterThanOrEqual(9);
    expect(
      new Set(answers.map(({ tenant, apiKey }) => `${tenant?.id ?? ''} ${apiKey ?? ''}`)).size,
    ).toBe(1);
    await expectClean('20 equal keys, one killed', [input]);
  });

  test('the client is gone in the middle', async () => {
    const inputs = Array.from({ length: 6 }, () => newTenant('client gone', random.pick(mixed)));
    await Promise.all(
      inputs.map((input, index) =>
        create(either(index), input, AbortSignal.timeout(5 + random.below(60))),
      ),
    );
    await expectClean('client gone', inputs);
  });

  test('the LISTEN connection is dropped: progress goes on, from either instance', async () => {
    const input = newTenant('listened to', random.pick(mixed));
    const answer = await create(survivor, { ...input, wait: false });
    const url = `${other.url}/api/operations/${answer!.operation!.id}/events`;
    const events = fetch(url).then((response) => response.text());
    await world.rows(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tenantry listen'`,
    );
    expect(await events).toContain('"operation_status":"succeeded"');
    await expectClean('LISTEN dropped', [input]);
  });

  test('SIGTERM under load: exit 0, and what it left is ended by the other', async () => {
    const inputs = Array.from({ length: 10 }, () => newTenant('under load', random.pick(mixed)));
    const creating = Promise.all(inputs.map((input) => create(other, input)));
    await new Promise((resolve) => setTimeout(resolve, random.below(150)));
    expect(await other.stop()).toBe(0);
    await creating;
    await expectClean('SIGTERM under load', inputs);
  });
});

test.runIf(minutes > 0)(
  `random kills for ${minutes} minutes`,
  async () => {
    const end = Date.now() + minutes * 60_000;
    while (Date.now() < end) {
      const { isolation, named } = random.pick(isolations);
      const points = [...around, ...inOrder(isolation)];
      const victim = await world.start({ FAILPOINTS: `${random.pick(points)}=crash` });
      const input = newTenant('killed anywhere', named);
      await create(victim, input);
      await gone(victim);
      if (random.below(4) === 0) await world.restart(random.pick(['fast', 'immediate']));
      await expectClean('random', [input]);
    }
  },
  (minutes + 2) * 60_000,
);
