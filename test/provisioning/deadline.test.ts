import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { pointsOf, postgresError, scriptFailpoints } from './failpoints.ts';
import { isolations } from './isolations.ts';
import { makeMigrationFolder, type MigrationFolder } from './migration-folders.ts';
import { createTenant, makeTenant, type CreatePayload } from './tenants.ts';
import { endedEvents, expectNothingLeft, expectOrderly } from './traces.ts';

let world: World;

beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.close());

/** The deadline passed in this step, and all was undone. */
async function expectTimedOut(by: TestGateway, payload: CreatePayload, step: string) {
  expect(payload).toMatchObject({ tenant: null, apiKey: null });
  expect(payload.userErrors).toEqual([
    {
      code: 'PROVISIONING_FAILED',
      message: `Step ${step} did not end before the operation's deadline. Everything was undone.`,
      field: null,
    },
  ]);
  await expectNothingLeft(world, by, payload.operation!.id);
  const rows = await endedEvents(world, payload.operation!.id);
  expectOrderly(rows);
  expect(rows.find((row) => row.status === 'FAILED')).toMatchObject({ step });
}

describe.each(isolations)(
  '$isolation: an operation whose deadline passes is undone',
  ({ isolation, createStep }) => {
    const points = pointsOf(isolation);
    const ended = 'activate:after';
    const busy = 'an error that may pass, again and again';
    const inputOf = (point: string) => ({
      name: point,
      slug: `${isolation.toLowerCase()}-${point.replaceAll(/[^a-z]+/g, '-')}`,
      isolation,
    });
    const answers = new Map<string, Promise<CreatePayload>>();
    let gateway: TestGateway;

    // All at once, each stopped at another point: they wait for their deadlines together.
    beforeAll(async () => {
      const failpoints = scriptFailpoints();
      gateway = await world.start({ failpoints, settings: { SCHEMA_CREATION_TIMEOUT: '8' } });
      for (const point of points) {
        const held = failpoints.hold(point);
        answers.set(point, createTenant(gateway, inputOf(point)));
        await held.reached;
        failpoints.clear();
      }
      failpoints.fail(`${createStep}:before`, Infinity, postgresError('55006'));
      answers.set(busy, createTenant(gateway, inputOf(busy)));
      await Promise.allSettled(answers.values());
      failpoints.clear();
    });
    afterAll(() => gateway.close());

    test.each(points.filter((point) => point !== ended))('%s hangs', async (point) => {
      await expectTimedOut(gateway, await answers.get(point)!, point.split(':')[0]!);
      await makeTenant(gateway, inputOf(point));
    });

    test(busy, async () => {
      await expectTimedOut(gateway, await answers.get(busy)!, createStep);
    });

    test('but not one that was activated before', async () => {
      const made = await answers.get(ended)!;
      expect(made).toMatchObject({
        tenant: { status: 'ACTIVE' },
        operation: { status: 'SUCCEEDED', percent: 100 },
        userErrors: [],
      });
      const rows = await endedEvents(world, made.operation!.id);
      expectOrderly(rows);
      expect(rows.map((row) => row.status)).not.toContain('FAILED');
    });
  },
);

describe.each(isolations)('$isolation: a tenant migration that hangs', ({ isolation }) => {
  let folder: MigrationFolder;
  afterEach(() => folder.remove());

  test.each<[string, string, string[]]>([
    [
      'in the server',
      `export const up = (knex) => knex.raw('SET statement_timeout = 0; SELECT pg_sleep(3600)');`,
      ['Once'],
    ],
    ['in the migration', `export const up = () => new Promise(() => {});`, ['Once', 'Twice']],
  ])('%s: is cut at the deadline', async (_where, text, names) => {
    folder = await makeMigrationFolder();
    await folder.writeText('001_hangs.mjs', text);
    const hanging = await world.start({
      // The fewest connections: one that is not given back is missed by the next create.
      settings: {
        TENANT_MIGRATIONS_DIR: folder.path,
        SCHEMA_CREATION_TIMEOUT: '4',
        CLUSTER_CONNECTIONS_MAX: '3',
      },
    });
    for (const name of names) {
      const payload = await createTenant(hanging, { name, isolation });
      await expectTimedOut(hanging, payload, 'run_migrations');
    }
    await hanging.close();
  });
});
