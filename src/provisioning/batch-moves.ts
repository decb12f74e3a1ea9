import type { BatchState, BatchStatus } from '../control/batches.ts';

/** What is to be done next for a batch. */
export type Move =
  | { readonly kind: 'WAIT' }
  /** Items that wait will not begin any more. */
  | { readonly kind: 'CANCEL'; readonly message: string; readonly rolledBack: boolean }
  /** What was made is undone. */
  | { readonly kind: 'ROLL_BACK'; readonly message: string }
  | { readonly kind: 'END'; readonly status: Exclude<BatchStatus, 'RUNNING'> };

const rolledBack = 'Another tenant of the atomic batch could not be made';

/** Decides it from how far a batch is, whoever asks and however often. */
export function nextMove(
  state: BatchState,
  { batchTimeoutSeconds }: { readonly batchTimeoutSeconds: number },
): Move {
  const { atomic, compensating, failed, late, queued, running, scheduled, succeeded } = state;
  const broken = atomic && failed + compensating > 0;
  if (queued > 0 && late) {
    const message = `Cancelled: it had not begun within the ${batchTimeoutSeconds} s of its batch`;
    return { kind: 'CANCEL', message, rolledBack: false };
  }
  if (queued + scheduled > 0 && broken) {
    return { kind: 'CANCEL', message: rolledBack, rolledBack: true };
  }
  if (scheduled + queued + running > 0) return { kind: 'WAIT' };
  if (broken && succeeded > 0) return { kind: 'ROLL_BACK', message: rolledBack };
  if (compensating > 0) return { kind: 'WAIT' };
  return { kind: 'END', status: endStatus(state) };
}

function endStatus(state: BatchState): Exclude<BatchStatus, 'RUNNING'> {
  const { atomic, cancelled, failed, succeeded, total } = state;
  if (succeeded === total) return 'SUCCEEDED';
  if (atomic) return 'ROLLED_BACK';
  if (succeeded > 0) return 'PARTIALLY_FAILED';
  return failed > 0 && cancelled === failed ? 'CANCELLED' : 'FAILED';
}
