import pg from 'pg';
import { cutConnection } from './connection.ts';
import { endSession, ignoreIdleError } from './session.ts';

/** One session that stays open from use to use. */
export interface KeptSession {
  readonly isOpen: boolean;
  /**
   * Runs `work` on it; opens it where it is not. After an error it is ended. One use at a time. When
   * `signal` aborts, it is cut.
   */
  use<T>(work: (client: pg.Client) => Promise<T>, signal?: AbortSignal): Promise<T>;
  end(): Promise<void>;
}

/** Builds a session that connects on first use. */
export function createKeptSession(config: () => pg.ClientConfig): KeptSession {
  let client: pg.Client | null = null;

  async function open(signal: AbortSignal | undefined): Promise<pg.Client> {
    signal?.throwIfAborted();
    const opened = new pg.Client(config());
    opened.on('error', ignoreIdleError);
    opened.once('end', () => {
      if (client === opened) client = null; // the server ended it
    });
    await whileConnected(opened, () => opened.connect(), signal);
    return opened;
  }

  async function end(): Promise<void> {
    const ended = client;
    client = null;
    if (ended !== null) await endSession(ended);
  }

  return {
    get isOpen() {
      return client !== null;
    },

    async use(work, signal) {
      client ??= await open(signal);
      const used = client;
      try {
        return await whileConnected(used, () => work(used), signal);
      } catch (error) {
        await end();
        throw error;
      }
    },

    end,
  };
}

async function whileConnected<T>(
  client: pg.Client,
  work: () => Promise<T>,
  signal: AbortSignal | undefined,
): Promise<T> {
  const cut = (): void => {
    cutConnection(client);
  };
  signal?.throwIfAborted();
  signal?.addEventListener('abort', cut, { once: true });
  try {
    return await work();
  } finally {
    signal?.removeEventListener('abort', cut);
  }
}
