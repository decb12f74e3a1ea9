import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { eventChannel } from '../control/event-hints.ts';
import { withClient } from '../postgres/session.ts';

export interface EventListenerOptions {
  /** Of the control plane; a connection of its own is made with it. */
  readonly connection: pg.ClientConfig;
  /** There may be something to read of these operations; null: of any. */
  readonly onHint: (operationIds: readonly string[] | null) => void;
  /** Told when the connection was lost; it is made again. */
  readonly onError: (error: unknown) => void;
}

/**
 * The one connection on which an instance listens for news of the event log. What it tells is a hint
 * only: while there is no connection, readers find out by looking themselves.
 */
export interface EventListener {
  /** Listens from now on; does nothing when it does already. Never rejects. */
  start(): void;
  close(): Promise<void>;
}

// A connection can go silent without an end (a proxy, a firewall that forgot it): it is asked.
const probeIntervalMs = 15_000;
const reconnectDelay = { firstMs: 100, maxMs: 10_000 } as const;

/** Builds the listener of an instance. Connects on `start`. */
export function createEventListener(options: EventListenerOptions): EventListener {
  const closing = new AbortController();
  let listening: Promise<void> | null = null;

  async function keepListening(): Promise<void> {
    const isClosing = (): boolean => closing.signal.aborted;
    for (let failures = 0; !isClosing(); failures += 1) {
      try {
        await withClient(
          options.connection,
          (client) =>
            listenOn(client, () => {
              failures = 0;
            }),
          { signal: closing.signal },
        );
      } catch (error) {
        if (isClosing()) return;
        options.onError(error);
      }
      const delayMs = Math.min(reconnectDelay.maxMs, reconnectDelay.firstMs * 2 ** failures);
      await sleep(delayMs, undefined, { signal: closing.signal }).catch(() => undefined);
    }
  }

  /** Listens until the connection is lost. */
  async function listenOn(client: pg.Client, connected: () => void): Promise<never> {
    const lost = new AbortController();
    client.on('error', (error) => {
      lost.abort(error);
    });
    client.on('end', () => {
      lost.abort(new Error('the connection has ended'));
    });
    client.on('notification', ({ payload = '' }) => {
      options.onHint(payload === '' ? null : payload.split(' '));
    });
    await client.query(`LISTEN ${eventChannel}`);
    connected();
    options.onHint(null); // whatever was told while nobody listened
    for (;;) {
      await sleep(probeIntervalMs, undefined, { signal: lost.signal }).catch(() => undefined);
      lost.signal.throwIfAborted();
      await client.query('SELECT 1');
    }
  }

  return {
    start() {
      listening ??= keepListening();
    },
    async close() {
      closing.abort(new Error('the instance is stopping'));
      await listening;
    },
  };
}
