import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { pointsOf, undoneSteps } from './failpoints.ts';
import { isolations } from './isolations.ts';
import { asTenant, createTenant } from './tenants.ts';
import { endedEvents, expectNothingLeft, expectOrderly, tracesOf } from './traces.ts';
import { startVictim, type Victim } from './victim.ts';

let world: World;
let victim: Victim | undefined;

beforeAll(async () => {
  world = await createWorld();
});
afterAll(async () => {
  await victim?.kill();
  await world.close();
});

async function createOn(gateway: Victim, input: object): Promise<void> {
  const query =
    'mutation ($i: CreateTenantInput!) { createTenant(input: $i) { operation { id } } }';
  const data = await gateway.graphql(query, { i: { ...input, wait: false } });
  expect(data).toMatchObject({ createTenant: { operation: {} } });
}

describe.each(isolations)('$isolation', ({ isolation, named, placeOf }) => {
  function inputOf(point: string) {
    const name = `${isolation} ${point}`;
    const slug = name.toLowerCase().replaceAll(/[:_ ]/g, '-');
    return { name, slug, idempotencyKey: name, ...named };
  }

  /** One operation for each point, each stopped there, in a gateway that is then killed. */
  async function killAt(
    points: readonly string[],
    env: Record<string, string> = {},
  ): Promise<void> {
    victim = await startVictim(world, { HOLD: points.join(), ...env });
    for (const point of points) {
      await createOn(victim, inputOf(point));
      expect(await victim.line()).toBe(point);
    }
    await victim.kill();
  }

  async function operationOf(point: string) {
    const [row] = await world.query<{ id: string; tenantId: string; fence: number }>(
      `SELECT o.id, o.tenant_id AS "tenantId", o.fence::int FROM control_plane.operations o
     JOIN control_plane.tenants t ON t.id = o.tenant_id WHERE t.name = $1 ORDER BY o.created_at`,
      [inputOf(point).name],
    );
    return row!;
  }

  describe('an instance that was killed', () => {
    const points = pointsOf(isolation);
    const open = points.filter((point) => point !== 'activate:after');
    let survivor: TestGateway;

    beforeAll(async () => {
      await killAt(points);
      survivor = await world.start({ settings: { TAKEOVER_SECONDS: '1' } });
    });
    afterAll(() => survivor.close());

    test.each(open)('at %s: another one resumes and ends its operation', async (point) => {
      const { id, tenantId } = await operationOf(point);
      const rows = await endedEvents(world, id);
      expectOrderly(rows);
      expect(rows.at(-1)).toMatchObject({ operationStatus: 'SUCCEEDED' });
      expect((await operationOf(point)).fence).toBeGreaterThan(1);
      expect(await tracesOf(world, id)).toMatchObject({
        places: [placeOf(inputOf(point).slug)],
        roles: [
          expect.stringMatching(/^own_/),
          expect.stringMatching(/^svc_/),
          expect.stringMatching(/^usr_/),
        ] as string[],
        status: 'ACTIVE',
        operationStatus: 'SUCCEEDED',
        secrets: null,
        apiKeys: 1,
        openJobs: 0,
      });
      const { rows: tables } = await asTenant(world, tenantId, (client) =>
        client.query(
          `SELECT count(*)::int AS count FROM pg_tables
         WHERE tablename IN ('settings', 'activity_log') AND tableowner = current_user
           AND schemaname = current_schema()`,
        ),
      );
      expect(tables).toEqual([{ count: 2 }]);
    });

    test.each(points)('at %s: whoever asks again gets the tenant and its key', async (point) => {
      const payload = await createTenant(survivor, inputOf(point));
      expect(payload).toMatchObject({
        tenant: { status: 'ACTIVE', slug: inputOf(point).slug },
        operation: { id: (await operationOf(point)).id, percent: 100 },
        apiKey: expect.stringMatching(/^tk_/) as string,
        userErrors: [],
      });
    });
  });

  describe('an instance that was killed while it undid', () => {
    const points = undoneSteps('verify_connection', isolation).map((step) => `${step}:compensate`);
    let survivor: TestGateway;

    beforeAll(async () => {
      await killAt(points, { FAIL: 'verify_connection:before' });
      survivor = await world.start({ settings: { TAKEOVER_SECONDS: '1' } });
    });
    afterAll(() => survivor.close());

    test.each(points)('at %s: another one ends the undoing', async (point) => {
      const { id } = await operationOf(point);
      const rows = await endedEvents(world, id);
      expectOrderly(rows);
      await expectNothingLeft(world, survivor, id);
      const payload = await createTenant(survivor, inputOf(point));
      expect(payload.tenant?.status).toBe('ACTIVE');
    });
  });
});
