import type { ServerSentEvent } from '../rest/route.ts';
import type { EventSequence } from '../rest/run-stream.ts';

/**
 * The response that sends events as `text/event-stream`, as fast as the client reads them, with a
 * comment as a sign of life in between. When the client goes away, so does the sequence.
 */
export function eventStreamResponse(events: EventSequence, keepAliveMs: number): Response {
  let alive: NodeJS.Timeout | undefined;
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(comment); // sends the headers, before there is an event
      alive = setInterval(() => {
        // Nothing is added to what waits already: a reader that has stalled is not alive.
        if ((controller.desiredSize ?? 0) > 0) controller.enqueue(comment);
      }, keepAliveMs);
    },
    async pull(controller) {
      const some = await events.nextSome();
      if (some.length > 0) {
        controller.enqueue(bytesOf(some));
        return;
      }
      clearInterval(alive);
      controller.close();
    },
    async cancel() {
      clearInterval(alive);
      await events.return();
    },
  });
  return new Response(body, {
    headers: {
      'Content-Type': 'text/event-stream',
      'Cache-Control': 'no-cache',
      'X-Accel-Buffering': 'no', // nginx would keep events back
    },
  });
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
