import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { CloseCode, handleProtocols } from 'graphql-ws';
import { WebSocketServer, type WebSocket } from 'ws';
import { maxBodyBytes } from './body.ts';
import { graphqlPath } from './graphql-endpoint.ts';
import { isLoopbackHost, loopbackOnlyMessage } from './host.ts';
import { describeUpgrade, headerOf } from './incoming.ts';
import { createJointFrames } from './joint-frames.ts';
import { isOwnOrListed } from './origin.ts';
import { checkTarget } from './request-target.ts';
import type { StreamTimes } from './stream-times.ts';
import {
  createProtocol,
  tryAgainLater,
  type Connection,
  type ProtocolOptions,
} from './websocket-protocol.ts';

export interface WebSocketOptions extends Omit<ProtocolOptions, 'initMs'> {
  /** Where this gateway is to be found from outside; empty: unknown. */
  readonly publicUrl: string;
  /** Origins of other hosts whose pages may connect. */
  readonly corsOrigins: readonly string[];
  readonly trustedProxies: number;
  /** Refuse connections whose Host header is not a loopback name (open mode). */
  readonly loopbackOnly: boolean;
  readonly times: StreamTimes;
}

/** GraphQL over WebSocket at `/graphql`. */
export interface WebSocketEndpoint {
  /** Answers a request to upgrade: with a socket, or with a refusal. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** Tells every client to go elsewhere (1001), and cuts off those that do not go. */
  close(graceMs: number): Promise<void>;
}

/** What may wait in memory for one client to read it. */
const maxBufferedBytes = 4 * 1024 * 1024;

/** Builds the endpoint; the HTTP server hands it what comes as `upgrade`. */
export function createWebSocketEndpoint(options: WebSocketOptions): WebSocketEndpoint {
  const { log, times } = options;
  const server = new WebSocketServer({
    noServer: true,
    maxPayload: maxBodyBytes,
    handleProtocols,
    ...{ closeTimeout: times.closeMs }, // not in the types of ws yet
  });
  const protocol = createProtocol({ ...options, initMs: times.initMs });
  let closing = false;

  // Not graphql-ws's own adapter for ws (`useServer`): whatever clients do wrong, it writes to the
  // console, and it has no limit on what waits for a client that does not read.
  function serve(socket: WebSocket, request: IncomingMessage): void {
    const gone = new AbortController();
    const incoming = describeUpgrade(request, options.trustedProxies, gone.signal);
    const connection: Connection = {
      incoming,
      caller: null,
      stopWatching: () => undefined,
      ...sender(socket, request.socket, gone),
    };
    const alive = keepAlive(socket, times.keepAliveMs);
    const closed = protocol.opened(
      {
        protocol: socket.protocol,
        send: connection.send,
        close: connection.close,
        onMessage: (handle) => {
          socket.on('message', (message) => {
            handle((message as Buffer).toString()).catch((error: unknown) => {
              log.error({ err: error }, 'a websocket message could not be handled');
              socket.close(CloseCode.InternalServerError, 'Internal server error');
            });
          });
        },
      },
      connection,
    );
    // Frames that are none, or too long: ws closes by itself (1002, 1009). Without a listener that
    // stays, the error would end the process.
    socket.on('error', (error) => {
      log.debug({ err: error, ipAddress: incoming.ipAddress }, 'a websocket client broke a rule');
    });
    socket.once('close', (code, reason) => {
      clearInterval(alive);
      gone.abort();
      connection.stopWatching();
      void closed(code, reason.toString());
      log.debug({ code, ipAddress: incoming.ipAddress }, 'websocket closed');
    });
  }

  return {
    upgrade(request, socket, head) {
      socket.on('error', () => undefined); // reset by the client; there is nobody to tell
      const refusal = closing ? shuttingDown : refusalOf(request, options);
      if (refusal === null) {
        server.handleUpgrade(request, socket, head, serve);
        return;
      }
      const { status, code, message } = refusal;
      const body = JSON.stringify({ errors: [{ message, extensions: { code } }] });
      const headers = [
        `HTTP/1.1 ${status}`,
        'Connection: close',
        'Content-Type: application/json; charset=utf-8',
        `Content-Length: ${Buffer.byteLength(body)}`,
      ];
      socket.end(`${headers.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy());
    },

    async close(graceMs) {
      closing = true;
      const sockets = [...server.clients];
      const closed = sockets.map(
        (socket) => new Promise((resolve) => socket.once('close', resolve)),
      );
      for (const socket of sockets) socket.close(1001, 'Going away');
      await Promise.race([Promise.all(closed), sleep(Math.min(graceMs, times.closeMs))]);
      for (const socket of server.clients) socket.terminate();
    },
  };
}

interface UpgradeRefusal {
  /** Status code and reason phrase. */
  readonly status: string;
  readonly code: string;
  readonly message: string;
}

const shuttingDown: UpgradeRefusal = {
  status: '503 Service Unavailable',
  code: 'UNAVAILABLE',
  message: 'This gateway shuts down',
};

/** Why a request may not upgrade; null: it may. */
function refusalOf(request: IncomingMessage, options: WebSocketOptions): UpgradeRefusal | null {
  const problem = checkTarget(request);
  if (problem !== null) {
    return { status: '400 Bad Request', code: 'BAD_REQUEST', message: problem };
  }
  const path = (request.url ?? '/').split('?', 1)[0];
  if (path !== graphqlPath) {
    return { status: '404 Not Found', code: 'NOT_FOUND', message: 'Not Found' };
  }
  const host = headerOf(request, 'host');
  const forbidden = { status: '403 Forbidden', code: 'FORBIDDEN' };
  // As for requests: a page elsewhere may have its own name point at this machine (DNS rebinding).
  if (options.loopbackOnly && !isLoopbackHost(host)) {
    return { ...forbidden, message: loopbackOnlyMessage };
  }
  // Browsers let any page connect anywhere, with the cookies and from the network of their user.
  const origin = headerOf(request, 'origin');
  return origin === null || isOwnOrListed(origin, host, options)
    ? null
    : { ...forbidden, message: 'Connections from this Origin are refused' };
}

/** What may wait for the kernel to take it before the next message is asked for. */
const enoughBytes = 64 * 1024;

/**
 * Sends messages: those of one turn of the event loop with one write, which costs more than all else
 * about a message. Sending resolves when there is room for the next one; at once when the socket is on
 * its way out.
 */
function sender(
  socket: WebSocket,
  wire: Socket,
  gone: AbortController,
): Pick<Connection, 'send' | 'sendAll' | 'close'> {
  const takesMessages = (): boolean => socket.readyState === socket.OPEN;
  const frames = createJointFrames(wire, takesMessages);
  let corked = false;

  function waitingBytes(): number {
    return frames.bytes + socket.bufferedAmount;
  }

  /** Behind all that waits already. */
  function close(code: number, reason: string): void {
    frames.flush();
    socket.close(code, reason);
  }

  /** Whether it may be sent to. */
  function isOpen(): boolean {
    if (takesMessages() && waitingBytes() > maxBufferedBytes) {
      // Who does not read that either is cut off.
      close(tryAgainLater, 'Reading too slowly');
      gone.abort(); // nothing more is made for it
    }
    return takesMessages();
  }

  function cork(): void {
    if (corked) return;
    corked = true;
    wire.cork();
    setImmediate(() => {
      corked = false;
      frames.flush();
      wire.uncork();
    });
  }

  async function written(write: (done: () => void) => void): Promise<void> {
    if (!isOpen()) return;
    cork();
    const { promise, resolve } = Promise.withResolvers<undefined>();
    write(() => {
      resolve(undefined);
    });
    if (waitingBytes() > enoughBytes) await promise;
  }

  return {
    send: (message) =>
      written((done) => {
        frames.flush(); // ws itself writes at once, since it compresses nothing: the order stays
        socket.send(message, done);
      }),
    sendAll: (beginning, rests) =>
      written((done) => {
        frames.add({ beginning, rests }, done);
      }),
    close,
  };
}

/** Pings, and cuts off who has not answered by the next time. */
function keepAlive(socket: WebSocket, intervalMs: number): NodeJS.Timeout {
  let answered = true;
  socket.on('pong', () => {
    answered = true;
  });
  return setInterval(() => {
    if (!answered) socket.terminate();
    else if (socket.readyState === socket.OPEN) {
      answered = false;
      socket.ping();
    }
  }, intervalMs);
}
