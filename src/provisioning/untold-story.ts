import type { OperationStep, StepEvent } from '../control/events.ts';
import type { Operation } from '../control/operations.ts';
import type { Step } from './step.ts';

/**
 * The events of an operation that has ended which nobody wrote: the instance that knew them is gone. The
 * last of them tells the end. Times and durations that nobody knows any more are the end's.
 *
 * @param steps of its pipeline, in order
 * @param told the states that were written
 * @param percent what its events have shown so far
 */
export function untoldStory(
  operation: Operation,
  steps: readonly Step[],
  told: readonly OperationStep[],
  percent: number,
): StepEvent[] {
  const succeeded = operation.status === 'SUCCEEDED';
  const done = succeeded ? 'SUCCEEDED' : 'COMPENSATED';
  const known = new Map(told.map(({ name, status }) => [name, status]));
  const positions = steps.map((step, position) => ({ step, position }));
  const order = succeeded
    ? positions
    : positions.filter(({ step }) => step.compensate !== undefined).reverse();
  const last = order.at(-1)?.position;
  let reached = percent;
  return order
    .filter(({ step, position }) => position === last || known.get(step.name) !== done)
    .map(({ step, position }): StepEvent => {
      if (succeeded) {
        reached = Math.max(reached, Math.floor((100 * (position + 1)) / steps.length));
      }
      const open = succeeded ? 'RUNNING' : 'COMPENSATING';
      return {
        operationId: operation.id,
        fence: operation.fence,
        tenantId: operation.tenantId,
        step: step.name,
        position,
        status: done,
        attempt: 1,
        operationStatus: position === last ? operation.status : open,
        percent: reached,
        message: `${step.name} ${succeeded ? 'done' : 'undone'}`,
        at: operation.finishedAt ?? new Date(),
        durationMs: null,
      };
    });
}
