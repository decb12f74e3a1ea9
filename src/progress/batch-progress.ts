import DataLoader from 'dataloader';
import {
  readBatchProgress,
  type BatchProgress,
  type ProgressEvent,
} from '../control/read-events.ts';
import type { Control } from '../control/database.ts';

/**
 * How far the batch of an event was when it was written; null: the event is of no batch. Looked up once
 * for each event, however many subscribers are told, and together for those that are told together.
 */
export function batchProgressOf(
  control: Control,
  event: ProgressEvent,
): Promise<BatchProgress | null> {
  if (event.batchId === null) return Promise.resolve(null);
  let progress = known.get(event);
  if (progress === undefined) {
    progress = loaderOf(control).load({ ...event, batchId: event.batchId });
    known.set(event, progress);
  }
  return progress;
}

// The readers of a tail are handed the same events; nobody keeps them.
const known = new WeakMap<ProgressEvent, Promise<BatchProgress | null>>();

interface BatchEvent {
  readonly batchId: string;
  readonly sequence: number;
}

type Loader = DataLoader<BatchEvent, BatchProgress | null>;

const loaders = new WeakMap<Control, Loader>();

function loaderOf(control: Control): Loader {
  let loader = loaders.get(control);
  if (loader === undefined) {
    loader = new DataLoader((events) => readAll(control, events), { cache: false });
    loaders.set(control, loader);
  }
  return loader;
}

async function readAll(
  control: Control,
  events: readonly BatchEvent[],
): Promise<(BatchProgress | null)[]> {
  const batches = Map.groupBy(events, ({ batchId }) => batchId);
  const found = new Map(
    await Promise.all(
      Array.from(batches, async ([batchId, list]) => {
        const sequences = list.map(({ sequence }) => sequence);
        return [batchId, await readBatchProgress(control, batchId, sequences)] as const;
      }),
    ),
  );
  return events.map(({ batchId, sequence }) => found.get(batchId)?.get(sequence) ?? null);
}
