import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import type { Writable } from 'node:stream';
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
  response.flushHeaders();
  const { outlet, bytesOf, comment } = outletOf(response);
  outlet.write(comment); // before there is an event: some proxies pass the headers on with the first bytes
  const alive = setInterval(() => {
    // Nothing is added to what waits already: a reader that has stalled is not alive.
    if (!outlet.writableNeedDrain) outlet.write(comment);
  }, keepAliveMs);
  try {
    for (;;) {
      const some = await events.nextSome();
      if (some.length === 0 || signal.aborted) break;
      if (outlet.write(bytesOf(some))) continue;
      await once(outlet, 'drain', { signal }).catch(() => undefined);
      // Whoever looks whether the client reads listens to the response, of which a connection has many.
      if (outlet !== response) response.emit('drain');
    }
    response.end();
  } finally {
    clearInterval(alive);
    await events.return();
  }
}

/** Where a response's events go, and as what. */
interface Outlet {
  readonly outlet: Writable;
  readonly bytesOf: (events: readonly ServerSentEvent[]) => Uint8Array;
  /** A sign of life. */
  readonly comment: Uint8Array;
}

/**
 * Chunks (RFC 9112, section 7.1) to the socket, once it has the headers: Node would frame them for each
 * reader anew, and write each in three parts, after whatever else is to be done at the time. With many
 * subscribers, that is most of what telling them costs.
 */
function outletOf(response: ServerResponse): Outlet {
  // Chunks are not for HTTP/1.0. A response behind another one of its connection has no socket yet.
  return response.chunkedEncoding && response.socket !== null
    ? { outlet: response.socket, bytesOf: chunkOf, comment: commentChunk }
    : { outlet: response, bytesOf: bodyOf, comment };
}

const encoder = new TextEncoder();
const comment = encoder.encode(':\n\n');
const commentChunk = framed(comment);

/** Who gets the same events gets the same bytes. */
const bodyOf = remembering(encodedAll);
const chunkOf = remembering((events) => framed(encodedAll(events)));

function encodedAll(events: readonly ServerSentEvent[]): Uint8Array {
  return encoder.encode(events.map(textOf).join(''));
}

function framed(bytes: Uint8Array): Uint8Array {
  return Buffer.concat([
    encoder.encode(`${bytes.length.toString(16)}\r\n`),
    bytes,
    encoder.encode('\r\n'),
  ]);
}

function remembering(make: Outlet['bytesOf']): Outlet['bytesOf'] {
  const known = new WeakMap<readonly ServerSentEvent[], Uint8Array>();
  return (events) => {
    let bytes = known.get(events);
    if (bytes === undefined) {
      bytes = make(events);
      known.set(events, bytes);
    }
    return bytes;
  };
}

function textOf({ id, event, body }: ServerSentEvent): string {
  const idLine = id === null ? '' : `id: ${id}\n`;
  return `${idLine}event: ${event}\ndata: ${JSON.stringify(body)}\n\n`;
}
