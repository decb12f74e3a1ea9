import type { IsolationKind } from '../../src/control/tenants.ts';
import { isolationOf } from '../../src/provisioning/isolation/index.ts';
import { createPipeline } from '../../src/provisioning/steps/index.ts';
import type { Failpoints, Step } from '../../src/provisioning/step.ts';

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

function stepsOf(isolation: IsolationKind): readonly Step[] {
  return createPipeline(isolationOf(isolation));
}

/** Names of the steps that do something, in order. */
export function runningStepsOf(isolation: IsolationKind): readonly string[] {
  return stepsOf(isolation)
    .filter((step) => step.run !== undefined)
    .map((step) => step.name);
}

/** Before and after each of these steps. */
export function pointsOf(isolation: IsolationKind): string[] {
  return runningStepsOf(isolation).flatMap((step) => [`${step}:before`, `${step}:after`]);
}

/** Names of all steps, in order. */
export function allStepsOf(isolation: IsolationKind): readonly string[] {
  return stepsOf(isolation).map((step) => step.name);
}

/** The same for `DATABASE` isolation. */
export const runningSteps: readonly string[] = runningStepsOf('DATABASE');
export const allSteps: readonly string[] = allStepsOf('DATABASE');

/** Names of the steps that are undone, last first, when the pipeline failed at `step`. */
export function undoneSteps(step: string, isolation: IsolationKind = 'DATABASE'): string[] {
  const steps = stepsOf(isolation);
  return steps
    .slice(0, steps.findIndex(({ name }) => name === step) + 1)
    .filter(({ compensate }) => compensate !== undefined)
    .map(({ name }) => name)
    .reverse();
}
