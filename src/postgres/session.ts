import pg from 'pg';
import { cutConnection } from './connection.ts';

/** A session whose answers grew beyond its limit was cut. */
export class AnswerTooLargeError extends Error {
  override readonly name = 'AnswerTooLargeError';
  readonly code = 'ANSWER_TOO_LARGE';

  constructor(maxBytes: number) {
    super(`the answers of the session are larger than ${maxBytes} bytes`);
  }
}

/**
 * Cuts a connected session once all that the server has sent on it comes to more than `maxBytes`:
 * rows, errors and notices alike. What a tenant can size must not fill our memory.
 *
 * @returns tells whether that has happened
 */
export function limitBytes(client: pg.ClientBase, maxBytes: number): () => boolean {
  const { connection } = client as unknown as {
    connection: NodeJS.EventEmitter & { stream: NodeJS.EventEmitter & { destroy(): void } };
  };
  let received = 0;
  const count = (): void => {
    const { stream } = connection;
    stream.on('data', (chunk: Buffer) => {
      received += chunk.length;
      if (received > maxBytes) stream.destroy();
    });
  };
  count();
  connection.once('sslconnect', count); // with TLS there is another stream from here on
  return () => received > maxBytes;
}

/** Limits of a session, and what is called about it. */
export interface SessionRun {
  /** When it aborts, the connection is cut. */
  readonly signal?: AbortSignal | undefined;
  /** Of all answers. */
  readonly maxBytes?: number | undefined;
  readonly onConnectError?: ((error: unknown) => void) | undefined;
}

/** Connects, runs `work`, and ends the connection whatever happens: it is gone when this settles. */
export async function withClient<T>(
  config: pg.ClientConfig,
  work: (client: pg.Client) => Promise<T>,
  run?: SessionRun,
): Promise<T> {
  const session = runSession(config, work, run);
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
  { signal, maxBytes, onConnectError }: SessionRun = {},
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
    // From the first byte: the server reports a login's settings when it connects, and a tenant sets its own.
    const tooLarge = maxBytes === undefined ? () => false : limitBytes(client, maxBytes);
    try {
      await client.connect().catch((error: unknown) => {
        onConnectError?.(error);
        throw error;
      });
      return await work(client);
    } catch (error) {
      if (tooLarge() && maxBytes !== undefined) throw new AnswerTooLargeError(maxBytes);
      throw error;
    } finally {
      signal?.removeEventListener('abort', cut);
      void endSession(client).then(gone.resolve);
    }
  }
  return { result: run(), ended: gone.promise };
}

/** Process id of the server's side of a session, as it said at the login. */
export function backendPid(client: pg.ClientBase): number {
  return (client as unknown as { readonly processID: number }).processID;
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
