import { setTimeout as sleep } from 'node:timers/promises';
import type { Knex } from 'knex';
import { appendEvents, type StepEvent } from '../control/events.ts';
import type { EventHints } from './event-hints.ts';

export interface EventLogOptions {
  readonly control: Knex;
  readonly hints: EventHints;
  /** Told when events could not be written; they are kept and tried again. */
  readonly onError: (error: unknown) => void;
}

/**
 * The ordered writer of progress events. Recording costs a create nothing: events are appended behind
 * it, in the order in which they were recorded, many in one transaction when they come fast.
 */
export interface EventLog {
  /** Queues an event; returns at once. */
  record(event: StepEvent): void;
  /** Resolves when all that was recorded so far is written. */
  settled(): Promise<void>;
  /** Writes what is left, as far as the control plane answers. */
  close(): Promise<void>;
}

// Events of one create come within some 100 ms: a commit for each would make the create itself wait
// for the disk. A reader who asks meanwhile (`settled`) need not wait for this.
const coalesceMs = 100;
/** When so many wait they are written at once: what comes in one piece comes late to many readers. */
const enough = 30;
const retryDelaysMs = [50, 200, 1000];

/** Builds the writer; one for each instance. */
export function createEventLog(options: EventLogOptions): EventLog {
  let waiting: StepEvent[] = [];
  let writing: Promise<void> | null = null;
  /** Somebody asks for all that is there. */
  let hurried = false;
  let pause = new AbortController();

  async function drain(): Promise<void> {
    while (waiting.length > 0) {
      if (!hurried && waiting.length < enough) {
        pause = new AbortController();
        await sleep(coalesceMs, undefined, { signal: pause.signal }).catch(() => undefined);
      }
      const events = waiting;
      waiting = [];
      await writeAll(events);
    }
    writing = null;
    hurried = false;
  }

  // An event that cannot be written is given up after a second and a bit: an operation that is
  // resumed writes again what was lost, and the operation's own row tells how it ended.
  async function writeAll(events: readonly StepEvent[]): Promise<void> {
    for (const delay of [...retryDelaysMs, null]) {
      try {
        options.hints.send(await appendEvents(options.control, events));
        return;
      } catch (error) {
        options.onError(error);
        if (delay !== null) await sleep(delay);
      }
    }
  }

  async function settled(): Promise<void> {
    if (writing === null) return;
    hurried = true;
    pause.abort();
    await writing;
  }

  return {
    record(event) {
      waiting.push(event);
      if (waiting.length >= enough) pause.abort();
      writing ??= drain();
    },
    settled,
    close: settled,
  };
}
