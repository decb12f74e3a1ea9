import type { ProgressEvent } from '../control/read-events.ts';

/** Events of one operation or batch, for one subscriber: what it missed, what comes, and an end. */
export type EventStream = AsyncIterableIterator<ProgressEvent, undefined>;

/** Where a stream gets its events from. */
export interface EventSupply {
  /** The stream has nothing left and is asked for more: fill it when there is more. */
  wanted(): void;
  /** The stream has ended, however it did. Called once, never before it was returned. */
  ended(): void;
}

/** The supplying end of a stream. Nothing it does after the end has an effect. */
export interface EventSink {
  /** The sequence number up to which the stream has been filled. */
  readonly cursor: number;
  /** Whether somebody waits for the next event. */
  readonly waiting: boolean;
  /** Hands over events beyond the cursor, in order; the last one of an operation ends the stream. */
  fill(events: readonly ProgressEvent[]): void;
  /** Ends the stream, with an error when there is one, before anything it still holds is read. */
  end(error?: Error): void;
}

/**
 * Builds a stream and its sink. Unlike an `async function*`, whose `finally` does not run while it is
 * parked on `await`, it ends at once when its reader goes away, also while it waits for an event. It
 * holds no more than one filling: it is filled when it is asked for more, and not before.
 *
 * @param signal of the one who reads; the stream ends when it aborts
 * @param isLast whether nothing follows an event
 */
export function createEventStream(
  afterSequence: number,
  signal: AbortSignal,
  supply: EventSupply,
  isLast: (event: ProgressEvent) => boolean,
): { readonly stream: EventStream; readonly sink: EventSink } {
  type Result = IteratorResult<ProgressEvent, undefined>;
  const done: Result = { done: true, value: undefined };
  let held: ProgressEvent[] = [];
  let cursor = afterSequence;
  let waiters: PromiseWithResolvers<Result>[] = [];
  let over = false;
  let failure: Error | null = null;

  function end(error?: Error): void {
    if (over) return;
    over = true;
    held = [];
    signal.removeEventListener('abort', aborted);
    const [first, ...others] = waiters;
    waiters = [];
    // An error is told once, to whoever asks first; from then on the stream has ended.
    if (error === undefined) first?.resolve(done);
    else if (first === undefined) failure = error;
    else first.reject(error);
    for (const waiter of others) waiter.resolve(done);
    supply.ended();
  }

  /** The next event that is there; what follows the last one is never told. */
  function take(): Result | null {
    const value = held.shift();
    if (value === undefined) return null;
    if (isLast(value)) end();
    return { done: false, value };
  }

  function aborted(): void {
    end();
  }
  signal.addEventListener('abort', aborted, { once: true });
  if (signal.aborted) queueMicrotask(aborted); // once the caller has what this function returns

  const stream: EventStream = {
    [Symbol.asyncIterator]: () => stream,
    next() {
      if (failure !== null) {
        const told = failure;
        failure = null;
        return Promise.reject(told);
      }
      const result = over ? done : take();
      if (result !== null) return Promise.resolve(result);
      const waiter = Promise.withResolvers<Result>();
      waiters.push(waiter);
      supply.wanted();
      return waiter.promise;
    },
    return() {
      failure = null;
      end();
      return Promise.resolve(done);
    },
  };
  const sink: EventSink = {
    get cursor() {
      return cursor;
    },
    get waiting() {
      return waiters.length > 0;
    },
    fill(events) {
      if (over) return;
      held.push(...events);
      cursor = events.at(-1)?.sequence ?? cursor;
      while (held.length > 0) {
        const waiter = waiters.shift();
        if (waiter === undefined) return;
        waiter.resolve(take() ?? done);
      }
    },
    end,
  };
  return { stream, sink };
}
