import { databaseIsolation } from '../../src/provisioning/isolation/database.ts';
import { createPipeline } from '../../src/provisioning/steps/index.ts';
import type { Failpoints } from '../../src/provisioning/failpoints.ts';
import type { Step } from '../../src/provisioning/step.ts';

type Action = () => Promise<void>;

/** Failpoints whose actions a test sets and takes away while the gateway runs. */
export interface ScriptedFailpoints extends Failpoints {
  /** What happens at `point`, each time it is reached. */
  at(point: string, action: Action): void;
  /** Throws `error` at `point`, the first `times` times. */
  fail(point: string, times?: number, error?: Error): void;
  /** Holds whoever comes to `point` until `release`. */
  hold(point: string): { readonly reached: Promise<void>; release(): void };
  clear(): void;
}

export function scriptFailpoints(): ScriptedFailpoints {
  const actions = new Map<string, Action>();
  return {
    async reach(point) {
      await actions.get(point)?.();
    },
    at: (point, action) => void actions.set(point, action),
    fail(point, times = Infinity, error = new Error('failpoint')) {
      let left = times;
      actions.set(point, () => {
        left -= 1;
        return left < 0 ? Promise.resolve() : Promise.reject(error);
      });
    },
    hold(point) {
      const reached = Promise.withResolvers<undefined>();
      const released = Promise.withResolvers<undefined>();
      actions.set(point, () => {
        reached.resolve(undefined);
        return released.promise;
      });
      return {
        reached: reached.promise,
        release() {
          released.resolve(undefined);
        },
      };
    },
    clear() {
      actions.clear();
    },
  };
}

/** An error as PostgreSQL reports it. */
export function postgresError(code: string): Error {
  return Object.assign(new Error(`error ${code}`), { code });
}

const steps: readonly Step[] = createPipeline(databaseIsolation);

/** Names of the steps that do something, in order. */
export const runningSteps: readonly string[] = steps
  .filter((step) => step.run !== undefined)
  .map((step) => step.name);

/** Names of all steps, in order. */
export const allSteps: readonly string[] = steps.map((step) => step.name);

/** Names of the steps that are undone, last first, when the pipeline failed at `step`. */
export function undoneSteps(step: string): string[] {
  return steps
    .slice(0, steps.findIndex(({ name }) => name === step) + 1)
    .filter(({ compensate }) => compensate !== undefined)
    .map(({ name }) => name)
    .reverse();
}
