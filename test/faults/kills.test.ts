/** Gateway processes that are killed in every step, in every undo, in recovery, and beside operations. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { tenantMarker } from '../../src/provisioning/names.ts';
import { undoneSteps } from '../provisioning/failpoints.ts';
import { isolations } from '../provisioning/isolations.ts';
import {
  choices,
  full,
  inOrder,
  inOrderWithStandby,
  openScene,
  recording,
  type Scene,
} from './scene.ts';
import { create, gone } from './world.ts';

const random = choices();
let scene: Scene;
beforeAll(async () => {
  scene = await openScene();
});
afterAll(() => scene.close());

describe.each(isolations)('$isolation', ({ isolation, named }) => {
  const points = [...recording, ...inOrderWithStandby(isolation)];
  const all = [...recording, ...inOrder(isolation)];
  const undo = undoneSteps('verify_connection', isolation).flatMap((step) => [
    `${step}:compensate`,
    `${step}:compensated`,
  ]);

  test('kill -9 in every step', async () => {
    await scene.expectClean(`kill -9, ${isolation}`, await scene.killAt(all, named));
  });

  test('kill -9 in every step, with standbys', async () => {
    const standbys = { STANDBY_DATABASES: '3', STANDBY_SCHEMAS: '3' };
    const inputs = await scene.killAt(points, { isolation }, standbys);
    await scene.expectClean(`kill -9 with standbys, ${isolation}`, inputs);
  });

  test('kill -9 while it is undone', async () => {
    const settings = { FAILPOINTS: 'verify_connection:before=throw' };
    await scene.expectClean(
      `kill -9 in compensation, ${isolation}`,
      await scene.killAt(undo, named, settings),
    );
  });

  test.runIf(full).each(all)('kill -9, alone, at %s', async (point) => {
    const victim = await scene.world.start({ FAILPOINTS: `${point}=crash` });
    const input = scene.newTenant(`crashed at ${point}`, named);
    await create(victim, input);
    await gone(victim);
    await scene.expectClean(`kill -9 alone, ${isolation}`, [input]);
  });

  test.runIf(full).each(undo)('kill -9, alone, at %s', async (point) => {
    const victim = await scene.world.start({
      FAILPOINTS: `verify_connection:before=throw;${point}=crash`,
    });
    const input = scene.newTenant(`crashed at ${point}`, named);
    await create(victim, input);
    await gone(victim);
    await scene.expectClean(`kill -9 alone in compensation, ${isolation}`, [input]);
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
    expect(await scene.survivor.stop()).toBe(0);
    const inputs = await scene.killAt(['create_role:after'], random.pick(mixed));
    const second = await scene.world.start({ FAILPOINTS: `${point}=crash` });
    await gone(second);
    scene.survivor = await scene.world.start();
    await scene.expectClean('kill -9 in recovery', inputs);
  }
});

test('kill -9, with default settings: taken over within 30 s', async () => {
  // The product's own: see docs/configuration.md.
  const defaults = { TAKEOVER_SECONDS: '20', SCHEMA_CREATION_TIMEOUT: '60' };
  expect(await scene.survivor.stop()).toBe(0);
  scene.survivor = await scene.world.start(defaults);
  const inputs = await scene.killAt(['create_role:after'], random.pick(mixed), defaults);
  await scene.expectClean('takeover with default settings', inputs);
});

test('kill -9 while standbys are made and clusters are compared', async () => {
  // Whoever compares, or makes standbys, keeps the others from it: nobody else does it here.
  expect(await scene.survivor.stop()).toBe(0);
  for (const [index, point] of besideOperations.entries()) {
    const count = String(index + 1);
    const settings = { STANDBY_DATABASES: count, STANDBY_SCHEMAS: count };
    const victim = await scene.world.start({ FAILPOINTS: `${point}=crash`, ...settings });
    await gone(victim);
    const keeper = await scene.world.start(settings);
    await scene.expectClean('kill -9 beside operations', [], keeper);
    expect(await keeper.stop()).toBe(0);
  }
  scene.survivor = await scene.world.start();
});

test('kill -9 while what an undone operation left is dropped', async () => {
  const failing = await scene.world.start({ FAILPOINTS: 'verify_connection:before=throw' });
  const input = scene.newTenant('left an orphan', { isolation: 'DATABASE' });
  const failed = await create(failing, input);
  expect(await failing.stop()).toBe(0);
  const [left] = await scene.world.rows<{ role: string; tenant: string; installation: string }>(
    `SELECT d.owner_role AS role, d.tenant_id AS tenant, i.id AS installation
     FROM control_plane.operations o JOIN control_plane.tenant_databases d USING (tenant_id),
       control_plane.installation i WHERE o.id = $1`,
    [failed!.operation!.id],
  );
  const { installation, role, tenant } = left!;
  expect(await scene.survivor.stop()).toBe(0);
  await scene.world.rows(`CREATE ROLE "${role}"`);
  const marker = tenantMarker(tenant, failed!.operation!.id, installation);
  await scene.world.rows(`COMMENT ON ROLE "${role}" IS '${marker}'`);
  await gone(await scene.world.start({ FAILPOINTS: 'reconcile:drop=crash' }));
  scene.survivor = await scene.world.start();
  await scene.expectClean('kill -9 while an orphan is dropped', [input]);
});
