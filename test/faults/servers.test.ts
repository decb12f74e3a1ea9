/** Servers that restart, connections that break, what is full or slow or fails. */
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { withDatabase } from '../control-template.ts';
import { pointsOf, undoneSteps } from '../provisioning/failpoints.ts';
import { isolations } from '../provisioning/isolations.ts';
import { makeMigrationFolder } from '../provisioning/migration-folders.ts';
import { openProxy } from '../proxy.ts';
import { choices, full, openScene, type Scene } from './scene.ts';
import { mountSmallDisk, unmountSmallDisks } from './small-disk.ts';
import { create } from './world.ts';

const random = choices();
const mixed = isolations.map(({ named }) => named);
let scene: Scene;
beforeAll(async () => {
  scene = await openScene();
});
afterAll(async () => {
  await scene.close();
  await unmountSmallDisks();
});

describe.each(isolations)('$isolation', ({ isolation, named }) => {
  const restarts = (full ? pointsOf(isolation) : [random.pick(pointsOf(isolation))]).flatMap(
    (point) => (['fast', 'immediate'] as const).map((mode) => [point, mode] as const),
  );
  test.each(restarts)('the server is restarted at %s: %s', async (point, mode) => {
    const gateway = await scene.world.start({ FAILPOINTS: `${point}=throw-passing*4` });
    const input = scene.newTenant(`restarted at ${point}`, named);
    const creating = create(gateway, input);
    await gateway.reached(point);
    await scene.world.restart(mode);
    await creating;
    await scene.expectClean(`server restarted, ${mode}`, [input], gateway);
    expect(await gateway.stop()).toBe(0);
  });

  test('a compensation that fails twice', async () => {
    const failing = undoneSteps('verify_connection', isolation).map(
      (step) => `${step}:compensate=throw*2`,
    );
    const gateway = await scene.world.start({
      FAILPOINTS: ['verify_connection:before=throw*1', ...failing].join(';'),
    });
    const input = scene.newTenant('undone at the third try', named);
    expect(await create(gateway, input)).toMatchObject({
      tenant: null,
      userErrors: [{ code: 'PROVISIONING_FAILED' }],
    });
    await scene.expectClean('a compensation fails twice', [input]);
    await gateway.stop();
  });

  test('a stalled instance wakes after its operation was undone', async () => {
    for (const point of full ? pointsOf(isolation) : ['create_role:before']) {
      const gateway = await scene.world.start({
        FAILPOINTS: `${point}=throw-passing*3`,
        SCHEMA_CREATION_TIMEOUT: '4',
      });
      const input = scene.newTenant(`stalled at ${point}`, named);
      const creating = create(gateway, input);
      await gateway.reached(point);
      gateway.signal('SIGSTOP');
      const ended = async () => {
        const rows = await scene.world.rows<{ open: boolean }>(
          `SELECT o.finished_at IS NULL AS open FROM control_plane.operations o
           JOIN control_plane.tenants t ON t.id = o.tenant_id WHERE t.slug = $1`,
          [input.slug],
        );
        return rows.some(({ open }) => !open);
      };
      await expect.poll(ended, { timeout: 30_000, interval: 200 }).toBe(true);
      gateway.signal('SIGCONT');
      await creating;
      await scene.expectClean('a stalled instance wakes', [input]);
      expect(await gateway.stop()).toBe(0);
    }
  });
});

test('pg_terminate_backend on each connection', async () => {
  const inputs = Array.from({ length: full ? 30 : 12 }, () =>
    scene.newTenant('cut', random.pick(mixed)),
  );
  const creating = Promise.all(inputs.map((input) => create(scene.survivor, input)));
  const state = { busy: true };
  void creating.finally(() => (state.busy = false));
  while (state.busy) {
    const pids = await scene.world.rows<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'tenantry%' ORDER BY pid`,
    );
    if (pids.length > 0) {
      await scene.world.rows('SELECT pg_terminate_backend($1)', [random.pick(pids).pid]);
    }
    await new Promise((resolve) => setTimeout(resolve, 20 + random.below(60)));
  }
  await scene.expectClean('pg_terminate_backend', inputs);
});

test.each(['stall', 'cut'] as const)('the network: %s', async (fault) => {
  const proxy = await openProxy(scene.world.url);
  const gateway = await scene.world.start({ DATABASE_URL: proxy.url });
  const inputs = Array.from({ length: 6 }, () =>
    scene.newTenant(`network ${fault}`, random.pick(mixed)),
  );
  const creating = Promise.all(inputs.map((input) => create(gateway, input)));
  await new Promise((resolve) => setTimeout(resolve, 50 + random.below(250)));
  proxy[fault]();
  await new Promise((resolve) => setTimeout(resolve, 4_000));
  proxy.resume();
  await creating;
  // Their connection strings lead through the proxy: it stays until they were tried.
  await scene.expectClean(`network: ${fault}`, inputs);
  expect(await gateway.stop()).toBe(0);
  await proxy.close();
});

test('connection slots used up', async () => {
  const inputs = Array.from({ length: 4 }, () => scene.newTenant('no slots', random.pick(mixed)));
  const held: pg.Client[] = [];
  for (;;) {
    const client = new pg.Client({ connectionString: scene.world.url, application_name: 'hog' });
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
  const creating = Promise.all(inputs.map((input) => create(scene.survivor, input)));
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  for (const client of held) await client.end();
  await creating;
  await scene.expectClean('slots used up', inputs);
});

test('the template is in use', async () => {
  const [template] = await scene.world.rows<{ name: string }>(
    'SELECT database_name AS name FROM control_plane.templates',
  );
  await scene.world.rows(`ALTER DATABASE "${template!.name}" ALLOW_CONNECTIONS true`);
  const session = new pg.Client(withDatabase(scene.world.url, template!.name));
  await session.connect();
  const input = scene.newTenant('template in use', { isolation: 'DATABASE' });
  const creating = create(scene.survivor, input);
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  await session.end();
  await scene.world.rows(`ALTER DATABASE "${template!.name}" ALLOW_CONNECTIONS false`);
  expect(await creating).toMatchObject({ tenant: { status: 'ACTIVE' } });
  await scene.expectClean('template in use', [input]);
});

test('the disk is full', async () => {
  const disk = await mountSmallDisk();
  if (disk === null) {
    console.log('DISK FULL: not tried, a tmpfs cannot be mounted here');
    return;
  }
  const [template] = await scene.world.rows<{ name: string }>(
    'SELECT database_name AS name FROM control_plane.templates',
  );
  // A database is made where its template is.
  await scene.world.rows(`CREATE TABLESPACE small LOCATION '${disk.path}'`);
  await scene.world.rows(`ALTER DATABASE "${template!.name}" SET TABLESPACE small`);
  await disk.fill();
  const input = scene.newTenant('disk full', { isolation: 'DATABASE' });
  expect(await create(scene.survivor, input)).toMatchObject({
    tenant: null,
    userErrors: [{ code: 'PROVISIONING_FAILED' }],
  });
  await disk.empty();
  await scene.expectClean('disk full', [input]);
  await scene.world.rows(`ALTER DATABASE "${template!.name}" SET TABLESPACE pg_default`);
});

test.each(['lock_timeout', 'statement_timeout'] as const)('%s', async (setting) => {
  const inputs = [scene.newTenant(setting, { isolation: 'SCHEMA' })];
  await scene.world.rows(`ALTER ROLE CURRENT_USER SET ${setting} = '300ms'`);
  const gateway = await scene.world.start({ SCHEMA_CREATION_TIMEOUT: '6' });
  const blocker = new pg.Client(scene.world.url);
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
    await scene.world.rows(`ALTER ROLE CURRENT_USER RESET ${setting}`);
  }
  await gateway.stop();
  await scene.expectClean(setting, inputs);
});

test.each([
  ['fails', 'SELECT 1 / 0'],
  ['hangs', 'SELECT pg_sleep(600)'],
])('a tenant migration that %s', async (what, sql) => {
  const folder = await makeMigrationFolder();
  await folder.write('001_tables', 'CREATE TABLE settings (); CREATE TABLE activity_log ()');
  await folder.write('002_bad', sql);
  const gateway = await scene.world.start({
    TENANT_MIGRATIONS_DIR: folder.path,
    SCHEMA_CREATION_TIMEOUT: '4',
  });
  const inputs = isolations.map(({ named }) => scene.newTenant(`migration ${what}`, named));
  const answers = await Promise.all(inputs.map((input) => create(gateway, input)));
  for (const answer of answers) expect(answer).toMatchObject({ tenant: null });
  await gateway.stop();
  await scene.expectClean(`a migration ${what}`, inputs);
  await folder.remove();
});
