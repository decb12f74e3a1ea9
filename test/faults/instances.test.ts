/** Several instances on one control plane; and, for so long as is asked, anything anywhere. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { undoneSteps } from '../provisioning/failpoints.ts';
import { isolations } from '../provisioning/isolations.ts';
import { choices, inOrder, inOrderWithStandby, openScene, recording, type Scene } from './scene.ts';
import { create, createBatch, gone, type Answer, type Gateway } from './world.ts';

const random = choices();
const minutes = Number(process.env['FAULT_MINUTES'] ?? 0);
const mixed = isolations.map(({ named }) => named);
let scene: Scene;
beforeAll(async () => {
  scene = await openScene();
});
afterAll(() => scene.close());

describe('two instances', () => {
  let other: Gateway;
  beforeAll(async () => {
    other = await scene.world.start();
  });
  const either = (index: number): Gateway => (index % 2 === 0 ? scene.survivor : other);

  test('50 equal requests race for one slug: one tenant', async () => {
    const { idempotencyKey: _, ...input } = scene.newTenant('raced for', random.pick(mixed));
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_none, index) => create(either(index), input)),
    );
    const made = answers.filter((answer) => answer?.tenant?.status === 'ACTIVE');
    expect(made).toHaveLength(1);
    for (const answer of answers.filter((one) => one?.tenant === null)) {
      expect(answer?.userErrors).toMatchObject([{ code: 'TAKEN' }]);
    }
    await scene.expectClean('50 equal requests', []);
  });

  test('20 equal idempotency keys, one instance killed: one tenant, one key', async () => {
    const victim = await scene.world.start({ FAILPOINTS: 'create_role:after=pause*1' });
    const input = scene.newTenant('asked for twenty times', random.pick(mixed));
    const first = create(victim, input);
    await victim.reached('create_role:after');
    const others = Array.from({ length: 19 }, (_none, index) =>
      create(index % 2 === 0 ? victim : scene.survivor, input),
    );
    await victim.kill();
    const answers = (await Promise.all([first, ...others])).filter((one): one is Answer => {
      return one !== null;
    });
    expect(answers.length).toBeGreaterThanOrEqual(9);
    expect(
      new Set(answers.map(({ tenant, apiKey }) => `${tenant?.id ?? ''} ${apiKey ?? ''}`)).size,
    ).toBe(1);
    await scene.expectClean('20 equal keys, one killed', [input]);
  });

  test.each(['the one that took it', 'one that helps'])(
    'a batch of 50, and %s is killed at any moment: each tenant once, with its key',
    async (who) => {
      const victim = await scene.world.start();
      const [took, isolation] = [
        who === 'one that helps' ? scene.survivor : victim,
        random.pick(isolations).isolation,
      ];
      const tenants = Array.from({ length: 50 }, () => {
        const { idempotencyKey: _, ...input } = scene.newTenant('of a batch', { isolation });
        return input;
      });
      const input = { tenants, idempotencyKey: `batch of ${tenants[0]!.slug}` };
      expect(await createBatch(took, { ...input, wait: false })).toMatchObject({
        userErrors: [],
      });
      await new Promise((resolve) => setTimeout(resolve, random.below(3_000)));
      await victim.kill();
      await scene.expectClean(`a batch of 50, ${who} killed`, []);
      const { batch } = (await createBatch(scene.survivor, input))!;
      expect(batch).toMatchObject({ status: 'SUCCEEDED', summary: { successful: 50 } });
      const made = new Set(batch!.results.map(({ tenant, apiKey }) => `${tenant!.id} ${apiKey!}`));
      expect(made.size).toBe(50);
    },
  );

  test('the client is gone in the middle', async () => {
    const inputs = Array.from({ length: 6 }, () =>
      scene.newTenant('client gone', random.pick(mixed)),
    );
    await Promise.all(
      inputs.map((input, index) =>
        create(either(index), input, AbortSignal.timeout(5 + random.below(60))),
      ),
    );
    await scene.expectClean('client gone', inputs);
  });

  test('the LISTEN connection is dropped: progress goes on, from either instance', async () => {
    const input = scene.newTenant('listened to', random.pick(mixed));
    const answer = await create(scene.survivor, { ...input, wait: false });
    const url = `${other.url}/api/operations/${answer!.operation!.id}/events`;
    const events = fetch(url).then((response) => response.text());
    await scene.world.rows(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tenantry listen'`,
    );
    expect(await events).toContain('"operation_status":"succeeded"');
    await scene.expectClean('LISTEN dropped', [input]);
  });

  test('SIGTERM under load: exit 0, and what it left is ended by the other', async () => {
    const inputs = Array.from({ length: 10 }, () =>
      scene.newTenant('under load', random.pick(mixed)),
    );
    const creating = Promise.all(inputs.map((input) => create(other, input)));
    await new Promise((resolve) => setTimeout(resolve, random.below(150)));
    expect(await other.stop()).toBe(0);
    await creating;
    await scene.expectClean('SIGTERM under load', inputs);
  });
});

/** A process that crashes at a point that an operation comes to, on its way there or back. */
async function crashAnywhere(): Promise<void> {
  const { isolation, named } = random.pick(isolations);
  const kind = random.pick(['forth', 'back', 'standby'] as const);
  const undo = undoneSteps('verify_connection', isolation).flatMap((step) => [
    `${step}:compensate`,
    `${step}:compensated`,
  ]);
  const points = {
    forth: [...recording, ...inOrder(isolation)],
    back: undo,
    standby: [...recording, ...inOrderWithStandby(isolation)],
  }[kind];
  const failing = kind === 'back' ? 'verify_connection:before=throw;' : '';
  const count = kind === 'standby' ? '2' : '0';
  const victim = await scene.world.start({
    FAILPOINTS: `${failing}${random.pick(points)}=crash`,
    STANDBY_DATABASES: count,
    STANDBY_SCHEMAS: count,
  });
  const input = scene.newTenant('killed anywhere', kind === 'standby' ? { isolation } : named);
  await create(victim, input);
  await gone(victim);
  if (random.below(4) === 0) await scene.world.restart(random.pick(['fast', 'immediate']));
  await scene.expectClean(`random: crash, ${kind}`, [input]);
}

/** A process that is killed, or whose sessions are ended, at any moment of several creations. */
async function killAnytime(): Promise<void> {
  const victim = await scene.world.start();
  const inputs = Array.from({ length: 5 }, () =>
    scene.newTenant('killed at any time', random.pick(mixed)),
  );
  const creating = inputs.map((input) => create(victim, input));
  await new Promise((resolve) => setTimeout(resolve, random.below(400)));
  const killed = random.below(3) > 0;
  if (killed) await victim.kill();
  else {
    await scene.world.rows(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'tenantry%'`,
    );
  }
  await Promise.all(creating);
  await scene.expectClean('random: at any moment', inputs);
  if (!killed) await victim.stop();
}

test.runIf(minutes > 0)(
  `anything, anywhere, for ${minutes} minutes`,
  async () => {
    const end = Date.now() + minutes * 60_000;
    while (Date.now() < end) await (random.below(3) === 0 ? killAnytime() : crashAnywhere());
  },
  (minutes + 2) * 60_000,
);
