import { Refusal } from '../errors.ts';
import type { Caller } from '../provisioning/caller.ts';

/** What a caller presents, wherever it stood. */
export interface Credentials {
  /** Value of the `Authorization` header, or what stands for it. */
  readonly authorization: string | null;
  /** Value of the `X-API-Key` header. */
  readonly apiKey: string | null;
}

/** The same, and where it came from. */
export interface Presented extends Credentials {
  readonly ipAddress: string | null;
}

/**
 * One way of proving who one is. Null: these credentials are not for me. The caller: proved.
 * A Refusal: they are mine, but bad.
 */
export type Recogniser = (credentials: Credentials) => Promise<Caller | null> | Caller | null;

/** Finds the caller. Once for each request, WebSocket connection or stream. */
export type Recognition = (presented: Presented) => Promise<Caller>;

/**
 * Tries the ways of proving in order.
 *
 * @returns a function that rejects with Refusal UNAUTHENTICATED when nobody knows the credentials
 */
export function createRecognition(recognisers: readonly Recogniser[]): Recognition {
  return async ({ authorization, apiKey }) => {
    if (authorization !== null && apiKey !== null) {
      // Which of them counted, would be a guess; and who guesses differently is fooled.
      const message = 'Present one of Authorization and X-API-Key, not both';
      throw new Refusal('UNAUTHENTICATED', message);
    }
    for (const recognise of recognisers) {
      const caller = await recognise({ authorization, apiKey });
      if (caller !== null) return caller;
    }
    const presented = authorization !== null || apiKey !== null;
    throw new Refusal(
      'UNAUTHENTICATED',
      presented ? 'These credentials are not valid here' : 'Credentials are required',
    );
  };
}
