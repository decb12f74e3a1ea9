/** One installation on a server of its own, with a gateway that goes on when others are killed. */
import { expect, inject } from 'vitest';
import { pointsOf } from '../provisioning/failpoints.ts';
import type { IsolationCase } from '../provisioning/isolations.ts';
import { chance, type Chance } from './random.ts';
import { record } from './table.ts';
import { create, openWorld, type Gateway, type Settings, type World } from './world.ts';

/** Every fault in every step, instead of some. */
export const full = process.env['FAULTS'] === 'full';

const cleanWithinMs = 30_000;

/** Input of a tenant that nobody else asks for. */
export interface NewTenant {
  readonly name: string;
  readonly slug: string;
  readonly idempotencyKey: string;
}

export interface Scene {
  readonly world: World;
  /** Goes on when another one is killed. */
  survivor: Gateway;
  newTenant(what: string, named: object): NewTenant;
  /** The end state comes, and the same request again makes, or finds, the one tenant. */
  expectClean(fault: string, inputs: readonly NewTenant[], by?: Gateway): Promise<void>;
  /** One create stopped at each of these points, in one gateway that is then killed. */
  killAt(points: readonly string[], named: object, settings?: Settings): Promise<NewTenant[]>;
  close(): Promise<void>;
}

/** The choices of this run; the same in each of its files. */
export function choices(): Chance {
  return chance(inject('faultSeed'));
}

/** Starts the server and the gateway that survives. */
export async function openScene(): Promise<Scene> {
  const world = await openWorld();
  let count = 0;

  const scene: Scene = {
    world,
    survivor: await world.start(),

    newTenant(what, named) {
      count += 1;
      const slug = `fault-${count}`;
      return { name: what, slug, idempotencyKey: slug, ...named };
    },

    async expectClean(fault, inputs, by = scene.survivor) {
      const { left, ms } = await world.settle(cleanWithinMs);
      await record(fault, Math.max(1, inputs.length), left.length, ms);
      expect(left.slice(0, 5).join('\n'), `left behind by: ${fault}`).toBe('');
      for (const input of inputs) {
        const again = await create(by, input);
        expect(again, `asked again after: ${fault}`).toMatchObject({
          tenant: { status: 'ACTIVE', slug: input.slug },
          userErrors: [],
        });
        const rows = await world.rows(
          `SELECT FROM control_plane.tenants WHERE slug = $1 AND status NOT IN ('FAILED', 'PURGED')`,
          [input.slug],
        );
        expect(rows, 'one tenant').toHaveLength(1);
      }
    },

    async killAt(points, named, { FAILPOINTS: further = '', ...settings } = {}) {
      const pauses = points.map((point) => `${point}=pause*1`);
      const victim = await world.start({
        FAILPOINTS: [further, ...pauses].join(';'),
        ...settings,
      });
      const inputs: NewTenant[] = [];
      for (const point of points) {
        const input = scene.newTenant(`killed at ${point}`, named);
        inputs.push(input);
        void create(victim, input);
        await victim.reached(point);
      }
      await victim.kill();
      return inputs;
    },

    close: () => world.close(),
  };
  return scene;
}

/** Around and in the transaction that records a tenant. */
export const recording = ['reserve:before', 'reserve:inside', 'reserve:after'];

/** The points after `reserve`, in the order in which an operation comes to them. */
export function inOrder(isolation: IsolationCase['isolation']): string[] {
  return pointsOf(isolation).flatMap((point) => {
    if (point === 'create_database:after') {
      return ['create_database:inside', 'create_database:opened', point];
    }
    return point === 'activate:after' ? ['commit:before', point] : [point];
  });
}

/** Of these, those that an operation with a standby comes to. */
export function inOrderWithStandby(isolation: IsolationCase['isolation']): string[] {
  const copying = ['create_database:inside', 'create_database:opened'];
  return inOrder(isolation).filter((point) => !copying.includes(point));
}
