import type { Logger } from 'pino';
import { operationKinds } from '../control/operations.ts';
import { PassingError } from '../postgres/error-codes.ts';
import { isolationKinds } from './isolation/index.ts';
import type { Failpoints } from './step.ts';
import { pipelines } from './steps/index.ts';

/** Nothing fails on purpose. */
export const noFailpoints: Failpoints = { reach: () => Promise.resolve() };

const actions = ['crash', 'throw', 'throw-passing', 'pause'] as const;

/** What happens at a point. */
export interface FailpointRule {
  readonly point: string;
  /**
   * `crash`: the process kills itself, as by kill -9. `throw`: an error for good. `throw-passing`: one
   * that may pass. `pause`: whoever comes there stays.
   */
  readonly action: (typeof actions)[number];
  /** How often; Infinity: always. */
  readonly times: number;
}

/**
 * Reads `point=action` or `point=action*times`, separated by semicolons.
 *
 * @returns undefined when it is not written so
 * @example
 * parseFailpoints('create_role:after=crash;verify_connection:before=throw*2');
 */
export function parseFailpoints(text: string): readonly FailpointRule[] | undefined {
  const rules: FailpointRule[] = [];
  for (const part of text.split(';').map((piece) => piece.trim())) {
    if (part === '') continue;
    const [, point = '', word, times] =
      /^([a-z_]+:[a-z]+)=([a-z-]+)(?:\*([1-9][0-9]{0,5}))?$/.exec(part) ?? [];
    const action = actions.find((one) => one === word);
    if (action === undefined) return undefined;
    rules.push({ point, action, times: times === undefined ? Infinity : Number(times) });
  }
  return rules;
}

/** Points beside those of the steps, in the order in which an operation comes to them. */
const furtherPoints = [
  // Around and in the transaction that records a tenant.
  'reserve:before',
  'reserve:inside',
  'reserve:after',
  // A database is there, and has neither marker nor final name.
  'create_database:inside',
  // It is open, and what is in it still the template's.
  'create_database:opened',
  // The transaction that ends an operation is about to commit.
  'commit:before',
  // The next items of batches have begun where others ended, and nobody works on them yet.
  'next_items:begun',
  // An operation is about to be, and was, taken over.
  'takeover:before',
  'takeover:after',
  'standby:recorded',
  'standby:made',
  'reconcile:before',
  'reconcile:drop',
  'reconcile:after',
];

/** All points there are: those of every step of every pipeline are found from the lists of steps. */
export function failpointNames(): ReadonlySet<string> {
  const names = new Set(furtherPoints);
  for (const kind of operationKinds) {
    for (const isolation of Object.values(isolationKinds)) {
      for (const step of pipelines[kind]?.(isolation) ?? []) {
        if (step.run !== undefined) names.add(`${step.name}:before`).add(`${step.name}:after`);
        if (step.compensate === undefined) continue;
        names.add(`${step.name}:compensate`).add(`${step.name}:compensated`);
      }
    }
  }
  return names;
}

/** Failpoints that do what these rules say, and tell the log. */
export function createFailpoints(rules: readonly FailpointRule[], log: Logger): Failpoints {
  const left = new Map(rules.map((rule) => [rule, rule.times]));
  return {
    async reach(point) {
      const rule = rules.find((one) => one.point === point && (left.get(one) ?? 0) > 0);
      if (rule === undefined) return;
      left.set(rule, (left.get(rule) ?? 0) - 1);
      log.warn({ point, action: rule.action }, 'failpoint reached');
      switch (rule.action) {
        case 'crash':
          process.kill(process.pid, 'SIGKILL');
          return new Promise(() => undefined);
        case 'pause':
          return new Promise(() => undefined);
        case 'throw':
          throw new Error(`failpoint ${point}`);
        case 'throw-passing':
          throw new PassingError(`failpoint ${point}`);
        default:
          rule.action satisfies never;
      }
    },
  };
}
