import type { Knex } from 'knex';
import type pg from 'pg';
import type { Logger } from 'pino';
import { isLastEvent, type EventSelector } from '../control/read-events.ts';
import { Refusal } from '../errors.ts';
import { createEventListener } from './event-listener.ts';
import {
  createEventStream,
  type EventSink,
  type EventStream,
  type EventSupply,
} from './event-stream.ts';
import { createEventTail, type EventTail } from './event-tail.ts';

export interface EventSubscriptionsOptions {
  readonly control: Knex;
  /** Of the control plane, for the connection that listens. */
  readonly connection: pg.ClientConfig;
  readonly log: Logger;
}

export interface SubscriptionRequest {
  /** Whose events, or what finds it out while the stream is read. */
  readonly of: EventSelector | ((signal: AbortSignal) => Promise<EventSelector>);
  /** Only events with a larger sequence number; 0: all. */
  readonly afterSequence: number;
  /** Whose stream counts against one limit. */
  readonly caller: string;
  /** Ends the stream: whoever reads it is gone. */
  readonly signal: AbortSignal;
}

/** Progress of operations as streams, whichever instance does the work. */
export interface EventSubscriptions {
  /**
   * Opens a stream. It has no cost before it is read, and none after its end.
   *
   * @throws Refusal RATE_LIMITED when the caller has too many open, UNAVAILABLE when the instance stops
   */
  open(request: SubscriptionRequest): EventStream;
  /** Ends all streams, those that are not over with an error, and the connection. */
  close(): Promise<void>;
}

/** Streams that one caller may have open on one instance. */
const maxPerCaller = 1000;
const pollMs = 1000;

/** Builds the subscriptions of an instance. */
export function createEventSubscriptions(options: EventSubscriptionsOptions): EventSubscriptions {
  const { control, log } = options;
  const tails = new Map<string, EventTail>();
  const open = new Set<EventSink>();
  const perCaller = new Map<string, number>();
  let closed = false;
  const listener = createEventListener({
    connection: options.connection,
    onHint(ids) {
      for (const id of ids ?? tails.keys()) tails.get(id)?.hint();
    },
    onError(error) {
      log.warn({ err: error }, 'the connection that listens for progress was lost');
    },
  });

  function tailOf(selector: EventSelector): EventTail {
    const id = idOf(selector);
    let tail = tails.get(id);
    if (tail === undefined) {
      tail = createEventTail({
        control,
        selector,
        pollMs,
        onError(error) {
          log.warn({ err: error, ...selector }, 'progress cannot be read; it is tried again');
        },
      });
      tails.set(id, tail);
    }
    return tail;
  }

  function leave(id: string, tail: EventTail, sink: EventSink): void {
    tail.remove(sink);
    if (tail.size > 0) return;
    tail.close();
    tails.delete(id);
  }

  /** Counts one more stream of a caller; returns what takes it off again. */
  function count(caller: string): () => void {
    const others = perCaller.get(caller) ?? 0;
    if (others >= maxPerCaller) {
      const message = `You have ${maxPerCaller} subscriptions open, which is the limit`;
      throw new Refusal('RATE_LIMITED', message);
    }
    perCaller.set(caller, others + 1);
    return () => {
      const left = (perCaller.get(caller) ?? 1) - 1;
      if (left === 0) perCaller.delete(caller);
      else perCaller.set(caller, left);
    };
  }

  return {
    open({ of, afterSequence, caller, signal }) {
      if (closed) throw stopping();
      const uncount = count(caller);
      const over = new AbortController();
      let join: Promise<void> | null = null;
      let wanted: (() => void) | null = null;
      let selector: EventSelector | null = null;

      async function find(): Promise<void> {
        selector = typeof of === 'function' ? await of(over.signal) : of;
        if (over.signal.aborted) return;
        const id = idOf(selector);
        const tail = tailOf(selector);
        tail.add(sink);
        over.signal.addEventListener('abort', () => {
          leave(id, tail, sink);
        });
        wanted = () => {
          tail.wanted(sink);
        };
        wanted();
      }

      const supply: EventSupply = {
        wanted() {
          listener.start();
          wanted?.();
          join ??= find().catch((error: unknown) => {
            sink.end(error as Error);
          });
        },
        ended() {
          over.abort();
          uncount();
          open.delete(sink);
          log.debug({ subscriptions: open.size }, 'progress subscription ended');
        },
      };
      // Of a batch, no single event is known to be the last: the tail ends the stream.
      const { stream, sink } = createEventStream(
        afterSequence,
        signal,
        supply,
        (event) => selector !== null && 'operationId' in selector && isLastEvent(event),
      );
      open.add(sink);
      log.debug({ subscriptions: open.size }, 'progress subscription opened');
      return stream;
    },

    async close() {
      closed = true;
      for (const sink of open) sink.end(stopping());
      await listener.close();
    },
  };
}

function idOf(selector: EventSelector): string {
  return 'batchId' in selector ? selector.batchId : selector.operationId;
}

function stopping(): Refusal {
  return new Refusal(
    'UNAVAILABLE',
    'This instance is stopping; go on with afterSequence elsewhere',
  );
}
