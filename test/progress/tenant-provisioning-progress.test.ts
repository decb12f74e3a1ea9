import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { allSteps, scriptFailpoints, undoneSteps } from '../provisioning/failpoints.ts';
import { connectionString, createTenant, makeTenant, type Made } from '../provisioning/tenants.ts';
import { endedEvents, expectOrderly } from '../provisioning/traces.ts';
import { all, codeOf, expectOpen, overServerSentEvents, overWebSocket } from './watch.ts';
import { progressDocument, until, ways, type Progress } from './watch.ts';

let world: World;
/** Does the work in these tests. */
let worker: TestGateway;
/** Another instance on the same control plane. */
let other: TestGateway;
const failpoints = scriptFailpoints();

beforeAll(async () => {
  world = await createWorld();
  [worker, other] = await Promise.all([world.start({ failpoints }), world.start()]);
});
afterAll(() => world.close());
beforeEach(() => {
  failpoints.clear();
});

/** Accepts a tenant whose creation stands still at a failpoint. */
async function heldAt(point: string, name: string) {
  const held = failpoints.hold(point);
  const { operation, tenant } = await createTenant(worker, { name, wait: false });
  await held.reached;
  const release = (): void => {
    held.release();
  };
  return { id: operation!.id, tenantId: tenant!.id, release };
}

/** What happened, without what differs from run to run. */
function story(events: readonly Progress[]): string[] {
  return events.map(({ step, status, operationStatus }) => `${step} ${status} ${operationStatus}`);
}

const wholeStory = allSteps.flatMap((step) => [
  `${step} STARTED RUNNING`,
  `${step} SUCCEEDED ${step === allSteps.at(-1) ? 'SUCCEEDED' : 'RUNNING'}`,
]);

describe.each(ways)('Subscription.tenantProvisioningProgress over %s', (way, watch) => {
  test('the whole story from the start, live and in order, also from another instance', async () => {
    const { id, tenantId, release } = await heldAt('create_database:before', `Live ${way}`);
    const streams = [watch(worker, { operationId: id }), watch(other, { operationId: id })];
    // Everything up to the step that stands still comes while it does.
    const before = await Promise.all(
      streams.map((stream) => until(stream, 'create_database', 'STARTED')),
    );
    release();
    const after = await Promise.all(streams.map((stream) => all(stream)));
    const [here = [], elsewhere] = streams.map((_, index) => [...before[index]!, ...after[index]!]);
    expect(story(here)).toEqual(wholeStory);
    expect(elsewhere).toEqual(here);
    expectOrderly(here);
    expect(here.map(({ sequence }) => sequence)).toEqual(
      here.map(({ sequence }) => sequence).toSorted((a, b) => a - b),
    );
    for (const event of here) expect(event).toMatchObject({ operationId: id, tenantId });
    await Promise.all([expectOpen(worker, 0), expectOpen(other, 0)]);
  });

  test('the same after the end, and only what comes after a sequence', async () => {
    const { operation } = await makeTenant(worker, { name: `Ended ${way}` });
    const operationId = operation.id;
    const events = await all(watch(other, { operationId }));
    expect(story(events)).toEqual(wholeStory);
    const { sequence } = events[5]!;
    expect(await all(watch(other, { operationId, afterSequence: sequence }))).toEqual(
      events.slice(6),
    );
  });

  test('a creation that fails: percent stands still, the last event says COMPENSATED', async () => {
    failpoints.fail('run_migrations:before');
    const failed = await createTenant(worker, { name: `Failing ${way}` });
    const operationId = failed.operation!.id;
    const events = await all(watch(other, { operationId }));
    expectOrderly(events);
    expect(story(events)).toContain('run_migrations FAILED COMPENSATING');
    const undone = undoneSteps('run_migrations');
    expect(story(events).slice(-2 * undone.length)).toEqual(
      undone.flatMap((step) => [
        `${step} COMPENSATING COMPENSATING`,
        `${step} COMPENSATED ${step === undone.at(-1) ? 'COMPENSATED' : 'COMPENSATING'}`,
      ]),
    );
  });
});

describe('Subscription.tenantProvisioningProgress by tenantId', () => {
  test('its latest operation when none is open', async () => {
    const { operation, tenant } = await makeTenant(worker, { name: 'By tenant' });
    const made = await all(overWebSocket(worker, { tenantId: tenant.id }));
    expect(new Set(made.map(({ operationId }) => operationId))).toEqual(new Set([operation.id]));

    const { deleteTenant } = await worker.graphql<{ deleteTenant: Pick<Made, 'operation'> }>(
      `mutation ($id: ID!) { deleteTenant(input: { id: $id }) { operation { id } } }`,
      { id: tenant.id },
    );
    const deleted = await all(overWebSocket(other, { tenantId: tenant.id }));
    expect(new Set(deleted.map(({ operationId }) => operationId))).toEqual(
      new Set([deleteTenant.operation.id]),
    );
    expect(deleted.at(-1)).toMatchObject({ operationStatus: 'SUCCEEDED', percent: 100 });
  });

  test('its open operation', async () => {
    const { id, tenantId, release } = await heldAt('create_role:before', 'Open by tenant');
    const stream = overServerSentEvents(other, { tenantId });
    const before = await until(stream, 'create_role', 'STARTED');
    release();
    const events = [...before, ...(await all(stream))];
    expect(story(events)).toEqual(wholeStory);
    expect(events[0]).toMatchObject({ operationId: id, tenantId });
  });
});

describe('Subscription.tenantProvisioningProgress by idempotencyKey', () => {
  test('a key that was used', async () => {
    const idempotencyKey = randomUUID();
    const { operation } = await makeTenant(worker, { name: 'By key', idempotencyKey });
    const events = await all(overWebSocket(other, { idempotencyKey }));
    expect(story(events)).toEqual(wholeStory);
    expect(events[0]?.operationId).toBe(operation.id);
  });

  test('a key that is used later is waited for', async () => {
    const idempotencyKey = randomUUID();
    const streams = [
      overWebSocket(other, { idempotencyKey }),
      overServerSentEvents(other, { idempotencyKey }),
    ];
    const watching = Promise.all(streams.map((stream) => all(stream)));
    await expectOpen(other, 2);
    await makeTenant(worker, { name: 'By later key', idempotencyKey });
    for (const events of await watching) expect(story(events)).toEqual(wholeStory);
    await expectOpen(other, 0);
  });

  test('who gives up waiting frees the subscription', async () => {
    const selection = { idempotencyKey: randomUUID() };
    const streams = [overWebSocket(other, selection), overServerSentEvents(other, selection)];
    const ended = streams.map((stream) => stream.next());
    await expectOpen(other, 2);
    for (const stream of streams) await stream.return?.();
    for (const { done } of await Promise.all(ended)) expect(done).toBe(true);
    await expectOpen(other, 0);
  });
});

describe('Subscription.tenantProvisioningProgress refuses', () => {
  const unknown = randomUUID();
  test.each([
    ['no selector', {}, 'BAD_USER_INPUT'],
    ['two selectors', { operationId: unknown, tenantId: unknown }, 'BAD_USER_INPUT'],
    [
      'three selectors',
      { operationId: unknown, tenantId: unknown, idempotencyKey: 'a' },
      'BAD_USER_INPUT',
    ],
    ['an empty key', { idempotencyKey: '' }, 'BAD_USER_INPUT'],
    ['a key that is too long', { idempotencyKey: 'k'.repeat(256) }, 'BAD_USER_INPUT'],
    ['a negative afterSequence', { operationId: unknown, afterSequence: -1 }, 'BAD_USER_INPUT'],
    ['an unknown operation', { operationId: unknown }, 'NOT_FOUND'],
    ['an unknown tenant', { tenantId: unknown }, 'NOT_FOUND'],
    ['an operation that is no UUID', { operationId: "' OR 1=1" }, 'NOT_FOUND'],
    ['a tenant that is no UUID', { tenantId: '42' }, 'NOT_FOUND'],
  ])('%s', async (_name, selection, code) => {
    expect(await codeOf(overWebSocket(worker, selection))).toBe(code);
    const answer = await worker.post(
      '/graphql',
      { query: progressDocument, variables: selection },
      { Accept: 'text/event-stream' },
    );
    expect(answer.status).toBe(code === 'NOT_FOUND' ? 404 : 400);
    expect(answer.text).toContain(`"extensions":{"code":"${code}"}`);
    expect(answer.text).toMatch(/event: complete\ndata:\n\n$/);
  });
});

test('Subscription.tenantProvisioningProgress tells no secret', async () => {
  const { apiKey, operation, tenant } = await makeTenant(worker, { name: 'Secretive' });
  const { host, password, username } = new URL(await connectionString(world, tenant.id));
  const told = JSON.stringify(await all(overWebSocket(other, { operationId: operation.id })));
  for (const secret of [apiKey!, host, password, username]) expect(told).not.toContain(secret);
});

describe('Subscription.tenantProvisioningProgress goes on', () => {
  test('when the connection that listens is cut: nothing is lost', async () => {
    const { id, release } = await heldAt('create_database:before', 'Listener cut');
    const stream = overWebSocket(other, { operationId: id });
    await until(stream, 'create_database', 'STARTED');
    const cut = await world.query<{ pid: number }>(
      `SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
       WHERE application_name = 'tenantry listen' AND datname = current_database()`,
    );
    expect(cut.length).toBeGreaterThan(0);
    release();
    const rest = await all(stream);
    expect(rest.at(-1)).toMatchObject({ operationStatus: 'SUCCEEDED', percent: 100 });
    // And it is there again for the next one.
    await expect
      .poll(async () => {
        const rows = await world.query<{ pid: number }>(
          `SELECT pid FROM pg_stat_activity
           WHERE application_name = 'tenantry listen' AND datname = current_database()`,
        );
        return rows.filter(({ pid }) => !cut.some((gone) => gone.pid === pid)).length;
      })
      .toBe(cut.length);
  });

  test('when a notification is lost: the table is looked at', async () => {
    const { id, tenantId, release } = await heldAt('create_role:before', 'Unheard');
    const stream = overWebSocket(other, { operationId: id });
    await until(stream, 'create_role', 'STARTED');
    await world.query(
      `INSERT INTO control_plane.operation_events
         (operation_id, tenant_id, step, status, operation_status, percent, message, at)
       VALUES ($1, $2, 'create_role', 'RETRYING', 'RUNNING', 25, 'nobody was told', now())`,
      [id, tenantId],
    );
    await until(stream, 'create_role', 'RETRYING');
    release();
    await all(stream);
  });

  test('to its end when the last event was lost with the instance that knew it', async () => {
    const { operation } = await makeTenant(worker, { name: 'Last event lost' });
    await endedEvents(world, operation.id);
    await world.query(
      `DELETE FROM control_plane.operation_events
       WHERE operation_id = $1 AND operation_status = 'SUCCEEDED'`,
      [operation.id],
    );
    await world.query(
      `UPDATE control_plane.operations SET finished_at = now() - interval '6 s' WHERE id = $1`,
      [operation.id],
    );
    const events = await all(overWebSocket(other, { operationId: operation.id }));
    // An instance that looks for such ends may have told it again just now.
    expect([wholeStory.slice(0, -1), wholeStory]).toContainEqual(story(events));
  });
});
