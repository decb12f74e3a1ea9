import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { scriptFailpoints } from './failpoints.ts';
import { isolations } from './isolations.ts';
import { createTenant } from './tenants.ts';
import { endedEvents, events, expectOrderly } from './traces.ts';

const failpoints = scriptFailpoints();
let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({ failpoints, settings: { TAKEOVER_SECONDS: '2' } });
  // Two that look must not tell the same story twice.
  await world.start({ settings: { TAKEOVER_SECONDS: '2' } });
});
afterEach(() => failpoints.clear());
afterAll(() => world.close());

/** As if the instance had died when it had written the first `kept` events. */
async function forgetEvents(operationId: string, kept: number): Promise<void> {
  await endedEvents(world, operationId);
  await world.query(
    `DELETE FROM control_plane.operation_events WHERE sequence IN (
       SELECT sequence FROM control_plane.operation_events WHERE operation_id = $1
       ORDER BY sequence OFFSET $2)`,
    [operationId, kept],
  );
  // Steps are told by the same statement as events.
  await world.query(
    `DELETE FROM control_plane.operation_steps s WHERE operation_id = $1 AND NOT EXISTS (
       SELECT FROM control_plane.operation_events e
       WHERE e.operation_id = s.operation_id AND e.step = s.name)`,
    [operationId],
  );
}

const stories = isolations.flatMap((one) => [0, 4].map((kept) => ({ ...one, kept })));

test.each(stories)(
  '$isolation: the events of an operation that succeeded, all but $kept of them lost, are told by another',
  async ({ isolation, kept, named }) => {
    const input = { name: `Untold ${isolation} ${kept}`, ...named };
    const { operation } = await createTenant(gateway, input);
    const before = await endedEvents(world, operation!.id);
    await forgetEvents(operation!.id, kept);
    const told = await endedEvents(world, operation!.id);
    expectOrderly(told);
    expect(told.slice(0, kept)).toEqual(before.slice(0, kept));
    const steps = (rows: typeof told) =>
      new Set(rows.filter(({ status }) => status === 'SUCCEEDED').map(({ step }) => step));
    expect(steps(told)).toEqual(steps(before));
    expect(told.at(-1)).toEqual(before.at(-1));
    const { operation: shown } = await gateway.graphql<{ operation: object }>(
      'query ($id: ID!) { operation(id: $id) { percent steps { name status } } }',
      { id: operation!.id },
    );
    expect(shown).toMatchObject({ percent: 100 });
    expect(shown).toHaveProperty('steps.length', steps(before).size);
  },
);

test('those of one that was undone are told likewise, once', async () => {
  failpoints.fail('verify_connection:before');
  const { operation } = await createTenant(gateway, { name: 'Untold undo' });
  await forgetEvents(operation!.id, 3);
  const told = await endedEvents(world, operation!.id);
  expectOrderly(told);
  expect(told.at(-1)).toMatchObject({ step: 'reserve', operationStatus: 'COMPENSATED' });
  expect(told).toEqual(await events(world, operation!.id));
});

test('an open operation whose job is gone gets another one, and is taken over by it', async () => {
  const held = failpoints.hold('create_role:before');
  const creating = createTenant(gateway, { name: 'Jobless' });
  await held.reached;
  const [row] = await world.query<{ id: string }>(
    'SELECT id FROM control_plane.operations WHERE finished_at IS NULL',
  );
  await world.query('DELETE FROM control_plane_jobs.job WHERE id = $1', [row!.id]);
  const jobs = () =>
    world.query<{ state: string }>('SELECT state FROM control_plane_jobs.job WHERE id = $1', [
      row!.id,
    ]);
  await expect.poll(jobs, { timeout: 20_000 }).toHaveLength(1);
  held.release();
  expect(await creating).toMatchObject({ tenant: { status: 'ACTIVE' } });
  expectOrderly(await endedEvents(world, row!.id));
});
