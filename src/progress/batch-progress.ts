import {
  readBatchProgress,
  type BatchProgress,
  type ProgressEvent,
} from '../control/read-events.ts';
import type { Control } from '../control/database.ts';

/**
 * How far the batch of an event was when it was written; null: the event is of no batch. Looked up once
 * for each event, however many subscribers are told.
 */
export function batchProgressOf(
  control: Control,
  event: ProgressEvent,
): Promise<BatchProgress | null> {
  let progress = known.get(event);
  if (progress === undefined) {
    progress =
      event.batchId === null
        ? Promise.resolve(null)
        : readBatchProgress(control, event.batchId, event.sequence);
    known.set(event, progress);
  }
  return progress;
}

// The readers of a tail are handed the same events; nobody keeps them.
const known = new WeakMap<ProgressEvent, Promise<BatchProgress | null>>();
