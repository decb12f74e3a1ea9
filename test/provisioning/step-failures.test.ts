import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import {
  pointsOf,
  postgresError,
  runningStepsOf,
  scriptFailpoints,
  undoneSteps,
} from './failpoints.ts';
import { isolations } from './isolations.ts';
import { createTenant, makeTenant, placeOf } from './tenants.ts';
import { endedEvents, expectNothingLeft, expectOrderly, tracesOf } from './traces.ts';

const failpoints = scriptFailpoints();
let world: World;
let gateway: TestGateway;
let count = 0;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({ failpoints });
});
afterEach(() => failpoints.clear());
afterAll(() => world.close());

describe.each(isolations)('$isolation', ({ isolation, named, createStep }) => {
  const runningSteps = runningStepsOf(isolation);
  const undone = (step: string) => undoneSteps(step, isolation);

  /** An input whose every name is unique, and taken when something of it stays. */
  function input() {
    count += 1;
    return {
      name: `Tenant ${count}`,
      uniqueName: true,
      slug: `failing-${count}`,
      domain: `failing-${count}.example.com`,
      idempotencyKey: `key-${count}`,
      ...(count % 2 === 0 ? named : { isolation }),
    };
  }

  const points = pointsOf(isolation);
  // Once its transaction has committed the tenant exists: what fails afterwards fails nothing.
  const beyondTheEnd = 'activate:after';

  describe('Mutation.createTenant undoes everything when it fails at', () => {
    test.each(points.filter((point) => point !== beyondTheEnd))('%s', async (point) => {
      const step = point.split(':')[0]!;
      failpoints.fail(point);
      const wanted = input();
      const payload = await createTenant(gateway, wanted);

      expect(payload).toMatchObject({ tenant: null, apiKey: null });
      expect(payload.userErrors).toEqual([
        {
          code: 'PROVISIONING_FAILED',
          message: `Step ${step} failed. Everything was undone.`,
          field: null,
        },
      ]);
      const operation = payload.operation!;
      expect(operation.status).toBe('COMPENSATED');
      expect(operation.error).toMatchObject({ message: `Step ${step} failed` });
      await expectNothingLeft(world, gateway, operation.id);

      const rows = await endedEvents(world, operation.id);
      expectOrderly(rows);
      const failed = rows.findIndex((row) => row.status === 'FAILED');
      expect(rows[failed]).toMatchObject({ step });
      expect(rows.slice(failed + 1).map((row) => `${row.step} ${row.status}`)).toEqual(
        undone(step).flatMap((name) => [`${name} COMPENSATING`, `${name} COMPENSATED`]),
      );

      failpoints.clear();
      await makeTenant(gateway, wanted);
    });

    test(`not at ${beyondTheEnd}: the tenant is there`, async () => {
      failpoints.fail(beyondTheEnd);
      const made = await makeTenant(gateway, input());
      expect(made.apiKey).toMatch(/^tk_/);
      expect(made.operation).toMatchObject({ status: 'SUCCEEDED', percent: 100, error: null });
      const rows = await endedEvents(world, made.operation.id);
      expectOrderly(rows);
      expect(rows.at(-1)).toMatchObject({ step: 'activate', status: 'SUCCEEDED', percent: 100 });
      expect(rows.filter((row) => row.status === 'FAILED')).toEqual([]);
      expect(made.operation.steps.map((step) => step.status)).not.toContain('FAILED');
    });
  });

  describe('an undo that fails is tried again', () => {
    test.each(undone(runningSteps.at(-1)!))('twice in %s', async (step) => {
      failpoints.fail('activate:before');
      failpoints.fail(`${step}:compensate`, 2);
      const wanted = input();
      const payload = await createTenant(gateway, wanted);
      expect(payload.userErrors).toMatchObject([{ code: 'PROVISIONING_FAILED' }]);
      const operation = payload.operation!;
      await expectNothingLeft(world, gateway, operation.id);
      const rows = await endedEvents(world, operation.id);
      expectOrderly(rows);
      const undoing = rows.filter((row) => row.status.startsWith('COMPENSAT'));
      expect(undoing.map((row) => `${row.step} ${row.status}`)).toEqual(
        undone('activate').flatMap((name) => [`${name} COMPENSATING`, `${name} COMPENSATED`]),
      );
      failpoints.clear();
      await makeTenant(gateway, wanted);
    });

    test('and keeps the names while it is not done', async () => {
      failpoints.fail('activate:before');
      const undo = failpoints.hold(`${createStep}:compensate`);
      const wanted = input();
      const creating = createTenant(gateway, wanted);
      await undo.reached;
      const rival = await createTenant(gateway, { name: 'Rival', slug: wanted.slug });
      expect(rival.userErrors).toMatchObject([{ code: 'TAKEN', field: ['input', 'slug'] }]);
      const health = await gateway.get('/readyz');
      expect(health.text).toContain('1 operations are being undone');
      undo.release();
      await expectNothingLeft(world, gateway, (await creating).operation!.id);
    });
  });

  describe('an error that may pass is tried again in the step', () => {
    test.each(runningSteps)('twice in %s', async (step) => {
      failpoints.fail(`${step}:before`, 2, postgresError('55006'));
      const made = await makeTenant(gateway, input());
      const rows = await endedEvents(world, made.operation.id);
      expectOrderly(rows);
      const ofStep = rows.filter((row) => row.step === step);
      expect(ofStep.map((row) => row.status)).toEqual([
        'STARTED',
        'RETRYING',
        'RETRYING',
        'SUCCEEDED',
      ]);
      expect(made.operation.steps.find(({ name }) => name === step)).toMatchObject({
        status: 'SUCCEEDED',
        attempts: 3,
      });
    });

    test.each(runningSteps.filter((step) => step !== 'activate'))(
      'also when %s had taken effect',
      async (step) => {
        failpoints.fail(`${step}:after`, 2, postgresError('57P01'));
        const made = await makeTenant(gateway, input());
        const traces = await tracesOf(world, made.operation.id);
        expect(traces.places).toEqual([placeOf(made)]);
        expect(traces.roles).toHaveLength(3);
      },
    );
  });

  test('how often a step was tried still shows when it was undone', async () => {
    const errors = [postgresError('55006'), postgresError('55006'), new Error('for good')];
    failpoints.at(`${createStep}:before`, () => Promise.reject(errors.shift()!));
    const { operation } = await createTenant(gateway, input());
    expect(operation?.steps.find(({ name }) => name === createStep)).toEqual({
      name: createStep,
      status: 'COMPENSATED',
      attempts: 3,
    });
  });
});

test('the log tells the cause, and no secret', async () => {
  const canary = 'postgres://user:swordfish@db.internal/secret';
  failpoints.fail('verify_connection:before', 1, new Error(canary));
  const { userErrors, operation } = await createTenant(gateway, { name: 'Canary' });
  expect(userErrors[0]?.message).toBe('Step verify_connection failed. Everything was undone.');
  const rows = await endedEvents(world, operation!.id);
  expect(JSON.stringify(rows)).not.toContain('swordfish');
  expect(gateway.logs()).toContain('"step":"verify_connection"');
});
