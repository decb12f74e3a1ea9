import type { Knex } from 'knex';
import {
  isWholeStory,
  readEvents,
  type EventSelector,
  type ProgressEvent,
} from '../control/read-events.ts';
import type { EventSink } from './event-stream.ts';

export interface EventTailOptions {
  readonly control: Knex;
  /** Whose events. */
  readonly selector: EventSelector;
  /** How often to look without a hint, milliseconds. */
  readonly pollMs: number;
  /** Told when events cannot be read any more; it goes on looking. */
  readonly onError: (error: unknown) => void;
}

/** The one reader of an operation's or batch's events on an instance, for however many streams. */
export interface EventTail {
  readonly size: number;
  /** Fills a stream from now on, from where it stands. */
  add(sink: EventSink): void;
  remove(sink: EventSink): void;
  /** One of its streams has nothing left. */
  wanted(sink: EventSink): void;
  /** There may be something new. */
  hint(): void;
  /** Stops looking. Its streams are not ended. */
  close(): void;
}

/** Events read at once, and so the most that one stream holds. */
const pageSize = 100;
/** Events kept for streams that begin later; more than the largest batch has. */
const maxKept = 10_000;

/**
 * Builds a reader. It looks only while somebody waits. What it has read it keeps: each event is read
 * once, and all streams are handed the same object, so that what is made of it can be shared too.
 */
export function createEventTail(options: EventTailOptions): EventTail {
  const { control, selector, onError } = options;
  const sinks = new Set<EventSink>();
  /** All events after `start` and up to `end`, in order. */
  let kept: ProgressEvent[] = [];
  let start = Infinity;
  let end = Infinity;
  /** Something may have been written since the last look. */
  let stale = true;
  /** Nothing follows. */
  let over = false;
  let looking = false;
  let failing = false;

  const poll = setInterval(() => {
    hint();
  }, options.pollMs);

  function hint(): void {
    stale = true;
    void look();
  }

  function waiting(): EventSink[] {
    return [...sinks].filter((sink) => sink.waiting);
  }

  async function look(): Promise<void> {
    if (looking) return;
    looking = true;
    try {
      for (let readers = waiting(); readers.length > 0; readers = waiting()) {
        hand(readers);
        if (!stale) break; // who wants more than he was handed says so
        await readOn();
        failing = false;
      }
    } catch (error) {
      if (!failing) onError(error);
      failing = true;
    } finally {
      looking = false;
    }
  }

  /** Hands on what is there. Streams that stand at the same place get the same array. */
  function hand(readers: readonly EventSink[]): void {
    const pages = new Map<number, readonly ProgressEvent[]>();
    for (const reader of readers) {
      const { cursor } = reader;
      let page = pages.get(cursor);
      if (page === undefined) {
        page = pageAfter(cursor);
        pages.set(cursor, page);
      }
      if (page.length > 0) reader.fill(page);
      else if (over) reader.end();
    }
  }

  function pageAfter(cursor: number): readonly ProgressEvent[] {
    if (cursor >= end) return [];
    let [low, high] = [0, kept.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((kept[middle]?.sequence ?? Infinity) > cursor) high = middle;
      else low = middle + 1;
    }
    return kept.slice(low, low + pageSize);
  }

  /** One query for all of them. */
  async function readOn(): Promise<void> {
    stale = false;
    const from = end;
    const events = await readEvents(control, selector, from, pageSize);
    if (from !== end) return; // somebody came who stands further back
    kept.push(...events);
    end = events.at(-1)?.sequence ?? end;
    if (kept.length > maxKept) {
      start = kept[kept.length - maxKept - 1]?.sequence ?? start;
      kept = kept.slice(-maxKept);
    }
    if (events.length === pageSize) stale = true;
    if (events.length > 0) over = false;
    else over = await isWholeStory(control, selector, from);
    hand(waiting());
  }

  return {
    get size() {
      return sinks.size;
    },
    add(sink) {
      sinks.add(sink);
      if (sink.cursor >= start) return;
      // It stands further back than all that was read: read anew from there.
      start = sink.cursor;
      end = sink.cursor;
      kept = [];
      stale = true;
      over = false;
    },
    remove(sink) {
      sinks.delete(sink);
    },
    wanted(sink) {
      if (sink.cursor < end || stale || over) void look();
    },
    hint,
    close() {
      clearInterval(poll);
    },
  };
}
