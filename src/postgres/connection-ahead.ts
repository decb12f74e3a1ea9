import pg from 'pg';
import { cutConnection } from './connection.ts';

/** A connection that is being opened before it is needed. */
export interface ConnectionAhead {
  /**
   * Waits until it is open, runs `work`, and ends it whatever happens. Once only. When `signal`
   * aborts, the connection is cut.
   */
  use<T>(work: (client: pg.Client) => Promise<T>, signal?: AbortSignal): Promise<T>;
  /** Resolves once what had to come before it is done, or has failed: then `use` rejects. */
  readonly begun: Promise<unknown>;
  /** Resolves once it is open and prepared; rejects with what kept it from that, as `use` does then. */
  readonly ready: Promise<unknown>;
  /** Ends it unused; after `use`, or twice, it does nothing. */
  discard(): void;
}

export interface AheadOptions {
  /** What has to be done before it may be opened. */
  readonly before?: Promise<unknown> | undefined;
  /** Done once it is open and before its use. */
  readonly prepare?: ((client: pg.Client) => Promise<unknown>) | undefined;
  /** Told once, when the connection counts no more. */
  readonly onEnd: () => void;
}

/** Begins to connect. */
export function connectAhead(
  config: pg.ClientConfig,
  { before, prepare, onEnd }: AheadOptions,
): ConnectionAhead {
  const client = new pg.Client(config);
  client.on('error', () => undefined); // told by the promise of whatever is under way
  let ended = false;
  const connected = (before ?? Promise.resolve())
    .then(() => {
      if (ended) throw new Error('the connection was discarded before it was opened');
      return client.connect();
    })
    .then(() => prepare?.(client));
  connected.catch(() => undefined); // told to whoever uses it

  function end(): void {
    if (ended) return;
    ended = true;
    // It counts until the server has let go of it.
    void client
      .end()
      .catch(() => undefined)
      .then(onEnd);
  }

  return {
    begun: (before ?? Promise.resolve()).catch(() => undefined),
    ready: connected,

    async use(work, signal) {
      const cut = (): void => {
        cutConnection(client);
      };
      signal?.addEventListener('abort', cut, { once: true });
      try {
        signal?.throwIfAborted();
        await connected;
        return await work(client);
      } finally {
        signal?.removeEventListener('abort', cut);
        end();
      }
    },
    discard: end,
  };
}
