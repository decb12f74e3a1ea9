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
      const { done, value } = await events.next();
      if (done !== true) {
        controller.enqueue(toBytes(value));
        return;
      }
      clearInterval(alive);
      controller.close();
    },
    async cancel() {
      clearInterval(alive);
      await events.return?.();
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

function toBytes({ id, event, body }: ServerSentEvent): Uint8Array {
  const idLine = id === null ? '' : `id: ${id}\n`;
  return encoder.encode(`${idLine}event: ${event}\ndata: ${JSON.stringify(body)}\n\n`);
}
