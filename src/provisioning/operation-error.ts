import type { Logger } from 'pino';
import {
  FenceLostError,
  recordOperationError,
  type OperationError,
} from '../control/operations.ts';
import type { StepContext } from './step.ts';

/** Writes why an operation that only goes forward does not, for as long as that is so. */
export interface ErrorRecorder {
  /** Null: it goes on. Rejects with FenceLostError alone. */
  record(error: OperationError | null): Promise<void>;
}

export interface ErrorRecorderOptions {
  readonly context: Pick<StepContext, 'operation' | 'hold' | 'services'>;
  readonly forwardOnly: boolean;
  readonly log: Logger;
}

/** Builds the recorder of a run; of an operation that is undone, the end says what failed. */
export function createErrorRecorder({
  context,
  forwardOnly,
  log,
}: ErrorRecorderOptions): ErrorRecorder {
  let recorded = context.operation.errorMessage; // by an earlier run
  return {
    async record(error) {
      const message = error?.message ?? null;
      if (!forwardOnly || message === recorded) return;
      try {
        await recordOperationError(context.services.control, context.hold, error);
        recorded = message;
      } catch (reason) {
        if (reason instanceof FenceLostError) throw reason;
        log.warn({ err: reason }, 'the error of an operation could not be recorded');
      }
    },
  };
}
