import pg from 'pg';
import { cutConnection } from './connection.ts';

/**
 * Connects, runs `work`, and ends the connection whatever happens: it is gone when this settles. When
 * `signal` aborts, the connection is cut.
 */
export async function withClient<T>(
  config: pg.ClientConfig,
  work: (client: pg.Client) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  const session = runSession(config, work, signal);
  try {
    return await session.result;
  } finally {
    await session.ended;
  }
}

// A server that is asked to end a session does so within milliseconds, or not at all.
const endTimeoutMs = 5_000;

/** The same, where the result is needed before the end: `ended` resolves, and never rejects, when the connection is gone. */
export function runSession<T>(
  config: pg.ClientConfig,
  work: (client: pg.Client) => Promise<T>,
  signal: AbortSignal | undefined,
  onConnectError?: (error: unknown) => void,
): { readonly result: Promise<T>; readonly ended: Promise<unknown> } {
  const gone = Promise.withResolvers<undefined>();
  async function run(): Promise<T> {
    if (signal?.aborted === true) {
      gone.resolve(undefined);
      throw signal.reason as Error;
    }
    const client = new pg.Client(config);
    client.on('error', ignoreIdleError);
    const cut = (): void => {
      cutConnection(client);
    };
    signal?.addEventListener('abort', cut, { once: true });
    try {
      await client.connect().catch((error: unknown) => {
        onConnectError?.(error);
        throw error;
      });
      return await work(client);
    } finally {
      signal?.removeEventListener('abort', cut);
      void endSession(client).then(gone.resolve);
    }
  }
  return { result: run(), ended: gone.promise };
}

/** Ends a session, and resolves, and never rejects, when it is gone. */
export async function endSession(client: pg.ClientBase): Promise<undefined> {
  const late = setTimeout(cutConnection, endTimeoutMs, client);
  await (client as unknown as { end(): Promise<void> }).end().catch(ignoreIdleError);
  clearTimeout(late);
}

/**
 * Without a listener that stays, an error between queries would end the process. What was under way is
 * rejected by its own promise.
 */
export function ignoreIdleError(): void {}
