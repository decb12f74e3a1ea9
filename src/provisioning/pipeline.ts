import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { StepStatus } from '../control/events.ts';
import {
  FenceLostError,
  findOperation,
  startCompensation,
  type OperationError,
  type OperationStatus,
} from '../control/operations.ts';
import type { EventLog } from '../progress/event-log.ts';
import { createErrorRecorder, type ErrorRecorder } from './operation-error.ts';
import { backoff, createRetries, publicFailure, type Retries } from './retries.ts';
import { letGo, type Pipeline, type Step, type StepContext } from './step.ts';

/** How a run of a pipeline ended for the instance that ran it. */
export type RunEnd =
  | 'SUCCEEDED'
  | 'COMPENSATED'
  /** Another instance has it, or it had ended already. */
  | 'TAKEN_OVER'
  /** This instance stops; the operation stays open for another one. */
  | 'STOPPED';

export interface PipelineRun extends Pipeline {
  /** Aborts at the operation's deadline and when the instance stops. */
  readonly context: StepContext;
  /** Aborts when the instance stops; compensation knows no deadline. */
  readonly stopping: AbortSignal;
  readonly eventLog: EventLog;
  readonly log: Logger;
  /** Where it is taken up: a resumed operation may be on its way back already. */
  readonly compensating: boolean;
  /** The percentage its events have shown so far; rises with each step, and never falls. */
  percent: number;
}

const compensationDelay = { firstMs: 100, maxMs: 30_000 } as const;

/**
 * Runs the steps in order. When one fails for good, or the deadline passes, undoes every step that
 * may have begun, last first, for as long as it takes. In a pipeline that only goes forward, no step
 * fails for good. Never rejects.
 */
export async function runPipeline(run: PipelineRun): Promise<RunEnd> {
  try {
    if (run.compensating) return await compensateFrom(run, run.steps.length - 1);
    const retries = createRetries(run.forwardOnly);
    const recorder = createErrorRecorder(run);
    for (const [position, step] of run.steps.entries()) {
      const failed = await runStep(run, step, position, { retries, recorder });
      if (failed === null) continue;
      await letGo(run.context.findings);
      if (run.stopping.aborted || run.forwardOnly) return 'STOPPED';
      await beginCompensation(run, step, failed.reason);
      // Told only now: a step that ended the operation cannot fail any more, whatever came after.
      failed.tell();
      return await compensateFrom(run, mayHaveBegun(run, position));
    }
    return 'SUCCEEDED';
  } catch (error) {
    if (error instanceof FenceLostError) return await endFound(run).catch(() => 'STOPPED' as const);
    if (run.stopping.aborted) return 'STOPPED';
    run.log.error({ err: error }, 'the pipeline failed');
    return 'STOPPED';
  } finally {
    await letGo(run.context.findings);
  }
}

/**
 * The last step that may have begun: whoever held an operation before may have come further, and with a
 * standby all is there from the beginning.
 */
function mayHaveBegun({ context, steps }: PipelineRun, position: number): number {
  const further = context.hold.fence > 1 || context.findings.prepared === true;
  return further ? steps.length - 1 : position;
}

/**
 * What came of an operation that takes no more writes of this run: another instance has it, or this
 * run has ended it itself, and only the answer to its commit was lost.
 */
async function endFound(run: PipelineRun): Promise<RunEnd> {
  const { hold, services } = run.context;
  const operation = await untilDone(run, 'end', () =>
    findOperation(services.control, null, hold.id),
  );
  if (operation?.fence !== hold.fence) return 'TAKEN_OVER';
  const first = run.steps.findIndex((step) => step.compensate !== undefined);
  const [status, position] =
    operation.status === 'COMPENSATED' || operation.status === 'CANCELLED'
      ? (['COMPENSATED', first] as const)
      : (['SUCCEEDED', run.steps.length - 1] as const);
  const step = run.steps[position];
  const ended = operation.status === 'CANCELLED' ? 'CANCELLED' : status;
  if (step === undefined || operation.status !== ended) return 'TAKEN_OVER';
  const done = status === 'SUCCEEDED' ? 'done' : 'undone';
  teller(run, step, position, 1)(status, ended, `${step.name} ${done}`, null);
  return status;
}

/** What a caller may read of a failed step. */
function publicError(step: string, error: unknown): OperationError {
  const { cause, code } = publicFailure(error);
  if (error instanceof DOMException && error.name === 'TimeoutError') {
    return { code, message: `Step ${step} did not end before the operation's deadline` };
  }
  return {
    code,
    message: cause === null ? `Step ${step} failed` : `Step ${step} failed: ${cause}`,
  };
}

interface FailedStep {
  readonly reason: unknown;
  /** Writes the event of the failure. */
  tell(): void;
}

/** Null: the step is done. Tries again as `retries` say, until the operation's signal aborts. */
async function runStep(
  run: PipelineRun,
  step: Step,
  position: number,
  { recorder, retries }: { readonly retries: Retries; readonly recorder: ErrorRecorder },
): Promise<FailedStep | null> {
  const { context, log } = run;
  const { signal } = context;
  const { failpoints } = context.services;
  const begun = performance.now();
  const elapsed = (): number => Math.round(performance.now() - begun);
  const last = position === run.steps.length - 1;
  for (let attempt = 1; ; attempt += 1) {
    const tell = teller(run, step, position, attempt);
    if (attempt === 1) tell('STARTED', 'RUNNING', `${step.name} started`, null);
    try {
      if (step.run !== undefined) {
        if (context.operation.batchId !== null) await context.services.precedence.giveWay();
        signal.throwIfAborted();
        await orAborted(failpoints.reach(`${step.name}:before`), signal);
        await orAborted(step.run(context), signal);
        await orAborted(failpoints.reach(`${step.name}:after`), signal);
      }
      // The last step has ended the operation.
      if (!last) await recorder.record(null);
      tell('SUCCEEDED', last ? 'SUCCEEDED' : 'RUNNING', `${step.name} done`, elapsed());
      log.info({ step: step.name, durationMs: elapsed(), attempt }, 'step done');
      return null;
    } catch (error) {
      if (error instanceof FenceLostError) throw error;
      const delay = signal.aborted ? null : retries.delayAfter(error, attempt);
      if (delay !== null) {
        log.warn({ err: error, step: step.name, attempt }, 'step failed, trying again');
        tell('RETRYING', 'RUNNING', `${step.name} is tried again`, null);
        await recorder.record(publicError(step.name, error));
        if (await slept(delay, signal)) continue;
      }
      const reason: unknown = signal.aborted ? signal.reason : error;
      const durationMs = elapsed();
      if (!run.stopping.aborted) {
        log.error({ err: error, step: step.name, attempt, durationMs }, 'step failed');
      }
      const { message } = publicError(step.name, reason);
      return { reason, tell: () => tell('FAILED', 'COMPENSATING', message, durationMs) };
    }
  }
}

async function beginCompensation(run: PipelineRun, step: Step, reason: unknown): Promise<void> {
  const { hold, services } = run.context;
  const error = publicError(step.name, reason);
  await untilDone(run, 'begin_compensation', () =>
    startCompensation(services.control, hold, error),
  );
}

/** Undoes from `position` back to the first step. Each undo is tried until it is done. */
async function compensateFrom(run: PipelineRun, position: number): Promise<RunEnd> {
  const context: StepContext = { ...run.context, signal: run.stopping };
  for (let index = position; index >= 0; index -= 1) {
    const step = run.steps[index];
    if (step?.compensate === undefined) continue;
    const { compensate } = step;
    const begun = performance.now();
    const tell = teller(run, step, index, 1);
    tell('COMPENSATING', 'COMPENSATING', `${step.name} is undone`, null);
    await untilDone(run, step.name, async () => {
      await context.services.failpoints.reach(`${step.name}:compensate`);
      await compensate(context);
      await context.services.failpoints.reach(`${step.name}:compensated`);
    });
    const ended = run.steps.slice(0, index).every((earlier) => earlier.compensate === undefined);
    const durationMs = Math.round(performance.now() - begun);
    // An operation that had not begun ends as CANCELLED.
    const left = ended
      ? (context.findings.ended?.operation.status ?? 'COMPENSATED')
      : 'COMPENSATING';
    tell('COMPENSATED', left, `${step.name} undone`, durationMs);
    run.log.info({ step: step.name, durationMs }, 'step undone');
  }
  return 'COMPENSATED';
}

async function untilDone<T>(run: PipelineRun, what: string, work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    run.stopping.throwIfAborted();
    try {
      return await orAborted(work(), run.stopping);
    } catch (error) {
      if (error instanceof FenceLostError) throw error;
      run.stopping.throwIfAborted();
      run.log.error({ err: error, step: what, attempt }, 'compensation failed, trying again');
      await sleep(backoff(attempt, compensationDelay), undefined, { signal: run.stopping });
    }
  }
}

type Tell = (
  status: StepStatus,
  operationStatus: OperationStatus,
  message: string,
  durationMs: number | null,
) => void;

function teller(run: PipelineRun, step: Step, position: number, attempt: number): Tell {
  const { hold, operation } = run.context;
  return (status, operationStatus, message, durationMs) => {
    // It stands still while something is undone or done again, and is 100 only on success.
    if (status === 'SUCCEEDED') {
      run.percent = Math.max(run.percent, Math.floor((100 * (position + 1)) / run.steps.length));
    }
    run.eventLog.record({
      operationId: operation.id,
      fence: hold.fence,
      tenantId: operation.tenantId,
      step: step.name,
      position,
      status,
      attempt,
      operationStatus,
      percent: run.percent,
      message,
      at: new Date(),
      durationMs,
    });
  };
}

/** Settles with the work, or rejects with the signal's reason when that comes first. */
async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const abort = (): void => {
    aborted.reject(signal.reason as Error);
  };
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
    aborted.promise.catch(() => undefined);
    work.catch(() => undefined); // given up on; what it still does, compensation waits for
  }
}

/** False when the signal cut the sleep short. */
function slept(delayMs: number, signal: AbortSignal): Promise<boolean> {
  return sleep(delayMs, true, { signal }).catch(() => false);
}
