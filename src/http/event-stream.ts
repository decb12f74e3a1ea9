import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import type { ServerSentEvent } from '../rest/route.ts';
import type { EventSequence } from '../rest/run-stream.ts';

/** What a response of `text/event-stream` says of itself. */
export const eventStreamHeaders = {
  'Content-Type': 'text/event-stream',
  'Cache-Control': 'no-cache',
  'X-Accel-Buffering': 'no', // nginx would keep events back
} as const;

/**
 * Sends events as `text/event-stream`, as fast as the client reads them, with a comment as a sign of life
 * in between. When the client goes away, so does the sequence. Resolves after the last event.
 *
 * Straight to Node's response: with many subscribers, a web stream for each of them costs as much again
 * as the writing itself.
 *
 * @param options.keepAliveMs between signs of life
 * @param options.signal aborts when the client is gone
 */
export async function sendEventStream(
  response: ServerResponse,
  events: EventSequence,
  { keepAliveMs, signal }: { readonly keepAliveMs: number; readonly signal: AbortSignal },
): Promise<void> {
  const end = (): void => {
    void events.return();
  };
  signal.addEventListener('abort', end, { once: true });
  if (signal.aborted) end();
  response.writeHead(200, eventStreamHeaders);
  response.write(comment); // sends the headers, before there is an event
  const alive = setInterval(() => {
    // Nothing is added to what waits already: a reader that has stalled is not alive.
    if (!response.writableNeedDrain) response.write(comment);
  }, keepAliveMs);
  try {
    for (;;) {
      const some = await events.nextSome();
      if (some.length === 0 || signal.aborted) break;
      if (response.write(bytesOf(some))) continue;
      await once(response, 'drain', { signal }).catch(() => undefined);
    }
    response.end();
  } finally {
    clearInterval(alive);
    await events.return();
  }
}

const encoder = new TextEncoder();
const comment = encoder.encode(':\n\n');

/** Who gets the same events gets the same bytes. */
const encoded = new WeakMap<readonly ServerSentEvent[], Uint8Array>();

function bytesOf(events: readonly ServerSentEvent[]): Uint8Array {
  let bytes = encoded.get(events);
  if (bytes === undefined) {
    bytes = encoder.encode(events.map(textOf).join(''));
    encoded.set(events, bytes);
  }
  return bytes;
}

function textOf({ id, event, body }: ServerSentEvent): string {
  const idLine = id === null ? '' : `id: ${id}\n`;
  return `${idLine}event: ${event}\ndata: ${JSON.stringify(body)}\n\n`;
}
