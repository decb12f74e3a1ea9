import type { ServerResponse } from 'node:http';

/** How long streams (WebSocket, server-sent events) wait for what, milliseconds. */
export interface StreamTimes {
  /** Between signs of life; proxies cut connections on which nothing happens for a minute. */
  readonly keepAliveMs: number;
  /** A reader that takes nothing of what is there for this long is cut off. */
  readonly stallMs: number;
  /** From the opening of a WebSocket to its `connection_init`. */
  readonly initMs: number;
  /** From closing a WebSocket to cutting it off, where the client does not answer. */
  readonly closeMs: number;
}

export const streamTimes: StreamTimes = {
  keepAliveMs: 12_000,
  stallMs: 30_000,
  initMs: 5_000,
  closeMs: 2_000,
};

/**
 * Cuts off a client once it has taken nothing of what waits for it for `stallMs` to twice as long. Not
 * by the socket's own timer: yoga turns that off for streams.
 */
export function cutOffWhenStalled(response: ServerResponse, stallMs: number): void {
  let waited = false;
  response.on('drain', () => {
    waited = false;
  });
  // Server-sent events go past the response (`sendEventStream`): what waits of them waits in the socket.
  const isWaiting = (): boolean =>
    response.writableNeedDrain || response.socket?.writableNeedDrain === true;
  const watch = setInterval(() => {
    if (waited && isWaiting()) response.destroy();
    waited = isWaiting();
  }, stallMs);
  response.once('close', () => {
    clearInterval(watch);
  });
}
