import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { runningSteps, scriptFailpoints } from './failpoints.ts';
import { makeMigrationFolder, type MigrationFolder } from './migration-folders.ts';
import { createTenant, makeTenant } from './tenants.ts';
import { endedEvents, expectNothingLeft, expectOrderly } from './traces.ts';

const failpoints = scriptFailpoints();
let world: World;
let gateway: TestGateway;
let patient: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({ failpoints, settings: { SCHEMA_CREATION_TIMEOUT: '1' } });
  patient = await world.start();
});
afterEach(() => failpoints.clear());
afterAll(() => world.close());

/** Creates, and expects that the deadline passes in this step and all is undone. */
async function expectTimedOut(by: TestGateway, step: string, input: object): Promise<void> {
  const payload = await createTenant(by, input);
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

describe('an operation whose deadline passes is undone', () => {
  test.each(runningSteps)('%s hangs', async (step) => {
    // In turns before and after it took effect; `activate` ends the operation with its effect.
    const place = step === 'activate' || runningSteps.indexOf(step) % 2 === 0 ? 'before' : 'after';
    failpoints.hold(`${step}:${place}`);
    const input = { name: step, slug: step.replaceAll('_', '-') };
    await expectTimedOut(gateway, step, input);
    await makeTenant(patient, input);
  });

  test('but not when it was activated before', async () => {
    failpoints.hold('activate:after');
    const made = await makeTenant(gateway, { name: 'In time' });
    expect(made.operation).toMatchObject({ status: 'SUCCEEDED', percent: 100 });
    const rows = await endedEvents(world, made.operation.id);
    expectOrderly(rows);
    expect(rows.map((row) => row.status)).not.toContain('FAILED');
  });

  test('while an error that may pass comes again and again', async () => {
    failpoints.fail(
      'create_database:before',
      Infinity,
      Object.assign(new Error('busy'), { code: '55006' }),
    );
    await expectTimedOut(gateway, 'create_database', { name: 'Always busy' });
  });

  test('an undo has no deadline of its own', async () => {
    failpoints.hold('verify_connection:before');
    // Half a second of backoff after each: together beyond the deadline.
    failpoints.fail('create_database:compensate', 5);
    await expectTimedOut(gateway, 'verify_connection', { name: 'Slowly undone' });
  });
});

describe('a tenant migration that hangs', () => {
  let folder: MigrationFolder;
  afterEach(() => folder.remove());

  test.each<[string, string]>([
    [
      'in the server',
      `export const up = (knex) => knex.raw('SET statement_timeout = 0; SELECT pg_sleep(3600)');`,
    ],
    ['in the migration', `export const up = () => new Promise(() => {});`],
  ])('%s: is cut at the deadline, again and again', async (_where, text) => {
    folder = await makeMigrationFolder();
    await folder.writeText('001_hangs.mjs', text);
    const hanging = await world.start({
      // The fewest connections: one that is not given back is missed by the second create.
      settings: {
        TENANT_MIGRATIONS_DIR: folder.path,
        SCHEMA_CREATION_TIMEOUT: '1',
        CLUSTER_CONNECTIONS_MAX: '3',
      },
    });
    for (const name of ['First', 'Second']) {
      await expectTimedOut(hanging, 'run_migrations', { name });
    }
    await hanging.close();
  });
});
