import type { ProgressEvent } from '../control/read-events.ts';

/** Events of one operation or batch, for one subscriber: what it missed, what comes, and an end. */
export interface EventStream extends AsyncIterableIterator<ProgressEvent, undefined> {
  /**
   * All that is there, once something is; none: it has ended. Streams that stand at the same place get
   * the same array.
   */
  nextSome(): Promise<readonly ProgressEvent[]>;
  return(): Promise<IteratorResult<ProgressEvent, undefined>>;
}

/** Whoever waits for what comes next. */
interface Waiter {
  readonly serve: () => void;
  readonly end: () => void;
  readonly reject: (error: Error) => void;
}

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
  /** Events that were handed over, and how many of them were taken: the array is not this stream's own. */
  let held: readonly ProgressEvent[] = [];
  let taken = 0;
  let cursor = afterSequence;
  let waiters: Waiter[] = [];
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
    if (error === undefined) first?.end();
    else if (first === undefined) failure = error;
    else first.reject(error);
    for (const waiter of others) waiter.end();
    supply.ended();
  }

  /** The next event that is there; what follows the last one is never told. */
  function take(): Result | null {
    const value = held[taken];
    if (value === undefined) return null;
    taken += 1;
    if (isLast(value)) end();
    return { done: false, value };
  }

  /** All that is there, none when that is nothing. */
  function takeAll(): readonly ProgressEvent[] {
    const rest = taken === 0 ? held : held.slice(taken);
    taken = held.length;
    const last = rest.findIndex(isLast);
    if (last < 0) return rest;
    end();
    return last === rest.length - 1 ? rest : rest.slice(0, last + 1);
  }

  /** Asks for more on behalf of whoever waits for it. */
  function wait<T>(serve: () => T, ended: T): Promise<T> {
    const { promise, reject, resolve } = Promise.withResolvers<T>();
    waiters.push({
      serve: () => {
        resolve(serve());
      },
      end: () => {
        resolve(ended);
      },
      reject,
    });
    supply.wanted();
    return promise;
  }

  function told(error: Error): Promise<never> {
    failure = null;
    return Promise.reject(error);
  }

  function aborted(): void {
    end();
  }
  signal.addEventListener('abort', aborted, { once: true });
  if (signal.aborted) queueMicrotask(aborted); // once the caller has what this function returns

  const stream: EventStream = {
    [Symbol.asyncIterator]: () => stream,
    next() {
      if (failure !== null) return told(failure);
      const result = over ? done : take();
      return result === null ? wait(() => take() ?? done, done) : Promise.resolve(result);
    },
    nextSome() {
      if (failure !== null) return told(failure);
      const some = over ? [] : takeAll();
      return some.length > 0 || over ? Promise.resolve(some) : wait(takeAll, []);
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
      held = taken === held.length ? events : [...held.slice(taken), ...events];
      taken = 0;
      cursor = events.at(-1)?.sequence ?? cursor;
      while (taken < held.length) {
        const waiter = waiters.shift();
        if (waiter === undefined) return;
        waiter.serve();
      }
    },
    end,
  };
  return { stream, sink };
}
