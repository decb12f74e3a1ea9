import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { isolations } from './isolations.ts';
import { becomes, letItBeTime, schedule, someDay, stateOf } from './scheduled.ts';
import { tracesOf } from './traces.ts';
import { startVictim, type Victim } from './victim.ts';

let world: World;
let gateway: TestGateway | undefined;
let victim: Victim | undefined;

beforeAll(async () => {
  world = await createWorld();
});
afterEach(async () => {
  await victim?.kill();
  await gateway?.close();
});
afterAll(() => world.close());

const restart = async (): Promise<TestGateway> =>
  (gateway = await world.start({ settings: { TAKEOVER_SECONDS: '1' } }));

describe.for(isolations)('a scheduled creation, $isolation', ({ createStep, isolation }) => {
  test('begins when its time has passed while nobody ran', async () => {
    const accepting = await restart();
    const input = { name: `Nobody ran ${isolation}`, isolation, provisionAt: someDay() };
    const { tenant } = await schedule(accepting, input);
    await accepting.close();
    await letItBeTime(world, tenant.id);
    await becomes(await restart(), tenant.id, 'ACTIVE');
  });

  test.for([`${createStep}:before`, `${createStep}:after`, 'commit:before'])(
    'is gone on with by another instance when the one that began it is killed at %s',
    async (point) => {
      const accepting = await restart();
      const input = { name: `${isolation} ${point}`, isolation, provisionAt: someDay() };
      const { operation, tenant } = await schedule(accepting, input);
      await accepting.close();
      victim = await startVictim(world, { HOLD: point });
      await letItBeTime(world, tenant.id);
      expect(await victim.line()).toBe(point);
      await victim.kill();
      const survivor = await restart();
      await becomes(survivor, tenant.id, 'ACTIVE');
      expect((await stateOf(survivor, tenant.id)).operations.nodes).toEqual([
        { status: 'SUCCEEDED' },
      ]);
      const traces = await tracesOf(world, operation.id);
      expect(traces).toMatchObject({ apiKeys: 1, openJobs: 0, secrets: null });
      expect(traces.places).toHaveLength(1);
      expect(traces.roles).toHaveLength(3);
    },
  );
});
