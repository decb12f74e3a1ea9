import type { Knex } from 'knex';
import { isWholeStory, readEvents, type EventSelector } from '../control/read-events.ts';
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

/** Builds a reader. It looks only while somebody waits. */
export function createEventTail(options: EventTailOptions): EventTail {
  const { control, selector, onError } = options;
  const sinks = new Set<EventSink>();
  /** Those that have read all there was. */
  const caughtUp = new WeakSet<EventSink>();
  /** Something may have been written since the last look. */
  let stale = true;
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
        if (!stale && readers.every((reader) => caughtUp.has(reader))) break;
        await fill(readers);
        failing = false;
      }
    } catch (error) {
      if (!failing) onError(error);
      failing = true;
    } finally {
      looking = false;
    }
  }

  /** One query for all of them, from where the one furthest behind stands. */
  async function fill(readers: readonly EventSink[]): Promise<void> {
    stale = false;
    const from = Math.min(...readers.map((reader) => reader.cursor));
    const events = await readEvents(control, selector, from, pageSize);
    const readAll = events.length < pageSize;
    for (const reader of readers) {
      reader.fill(events.filter((event) => event.sequence > reader.cursor));
      if (readAll) caughtUp.add(reader);
      else caughtUp.delete(reader);
    }
    if (events.length > 0 || !(await isWholeStory(control, selector, from))) return;
    for (const reader of readers) reader.end();
  }

  return {
    get size() {
      return sinks.size;
    },
    add(sink) {
      sinks.add(sink);
    },
    remove(sink) {
      sinks.delete(sink);
    },
    wanted(sink) {
      if (stale || !caughtUp.has(sink)) void look();
    },
    hint,
    close() {
      clearInterval(poll);
    },
  };
}
