import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import type { AccessWatch } from '../auth/access-watch.ts';
import { SettingError } from '../errors.ts';
import { errorFormFor } from '../rest/index.ts';
import type { GraphiQLPage } from './graphiql.ts';
import { applyCors } from './cors.ts';
import { graphqlPath, refuseGraphQL, serveGraphQL } from './graphql-endpoint.ts';
import { isLoopbackHost, loopbackOnlyMessage } from './host.ts';
import { describeIncoming, headerOf, type Incoming } from './incoming.ts';
import { checkOrigin } from './origin.ts';
import { checkTarget } from './request-target.ts';
import { createRestApp, type RestOptions } from './rest-app.ts';
import { cutOffWhenStalled, streamTimes, type StreamTimes } from './stream-times.ts';
import { createWebSocketEndpoint } from './websocket.ts';

export interface HttpOptions extends Omit<RestOptions, 'times'> {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly graphiql: GraphiQLPage | null;
  /** Origins that browsers may call from. */
  readonly corsOrigins: readonly string[];
  readonly trustedProxies: number;
  /** Ends WebSockets whose caller's credentials hold no more. */
  readonly access: AccessWatch;
  /** Other times than the usual ones; tests only. */
  readonly streamTimes: Partial<StreamTimes>;
}

export interface HttpServer {
  /** Where it listens, e.g. `http://127.0.0.1:4000`. */
  readonly url: string;
  /** Stops accepting, waits for answers under way, at most `graceMs` milliseconds. */
  close(graceMs: number): Promise<void>;
}

const idleCheckMs = 50;

/**
 * Listens, and sends each request to the part that answers it.
 *
 * @throws SettingError naming PORT or HOST when it cannot listen there
 */
export async function listen(options: HttpOptions): Promise<HttpServer> {
  const times = { ...streamTimes, ...options.streamTimes };
  const handle = createHandler({ ...options, times });
  const webSocket = createWebSocketEndpoint({ ...options, times });
  // Other upgrades (curl offers HTTP/2) are declined: such a request is served as it is.
  const shouldUpgradeCallback = (request: IncomingMessage): boolean =>
    headerOf(request, 'upgrade')?.toLowerCase() === 'websocket';
  // Node would refuse a request without Host by itself, without a word.
  const serverOptions = { shouldUpgradeCallback, requireHostHeader: false };
  const server = createServer(serverOptions, (request, response) => {
    void handle(request, response);
  });
  server.on('upgrade', (request, socket, head) => {
    webSocket.upgrade(request, socket, head);
  });
  await listenOn(server, options);
  const { address, port } = server.address() as AddressInfo;
  const host = address.includes(':') ? `[${address}]` : address;
  return {
    url: `http://${host}:${port}`,
    async close(graceMs) {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeIdleConnections();
      // Those that are busy now would stay open for a next request, which will not be served.
      const closeIdle = setInterval(() => {
        server.closeIdleConnections();
      }, idleCheckMs);
      const socketsClosed = webSocket.close(graceMs);
      const cut = setTimeout(() => {
        server.closeAllConnections();
      }, graceMs);
      await Promise.all([closed, socketsClosed]);
      clearInterval(closeIdle);
      clearTimeout(cut);
    },
  };
}

type Handler = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

function createHandler(options: HttpOptions & { readonly times: StreamTimes }): Handler {
  const app = createRestApp(options);

  async function answer(
    request: IncomingMessage,
    response: ServerResponse,
    incoming: Incoming,
  ): Promise<void> {
    const problem = checkTarget(request);
    const path = pathOf(request);
    if (problem !== null) {
      refuse(response, { path, incoming }, 'BAD_REQUEST', problem);
      return;
    }
    if (options.loopbackOnly && !isLoopbackHost(headerOf(request, 'host'))) {
      // A page elsewhere may have its own name point at this machine (DNS rebinding).
      refuse(response, { path, incoming }, 'FORBIDDEN', loopbackOnlyMessage);
      return;
    }
    if (applyCors(request, response, options.corsOrigins)) return;
    const foreign = checkOrigin(request, options);
    if (foreign !== null) {
      refuse(response, { path, incoming }, 'FORBIDDEN', foreign);
      return;
    }
    if (path === graphqlPath) {
      await serveGraphQL(request, response, incoming, options);
      return;
    }
    const serveRest = getRequestListener((fetched, bindings) =>
      app.fetch(fetched, { ...bindings, incomingRequest: incoming }),
    );
    await serveRest(request, response);
  }

  return async (request, response) => {
    const begun = performance.now();
    const incoming = describeIncoming(request, response, options.trustedProxies);
    cutOffWhenStalled(response, options.times.stallMs);
    response.setHeader('X-Content-Type-Options', 'nosniff');
    response.setHeader('X-Frame-Options', 'DENY');
    response.setHeader('Referrer-Policy', 'no-referrer');
    response.once('close', () => {
      const path = pathOf(request);
      const quiet = path === '/livez' || path === '/readyz';
      options.log[quiet ? 'debug' : 'info'](
        {
          requestId: incoming.requestId,
          method: request.method,
          path,
          status: response.statusCode,
          durationMs: Math.round(performance.now() - begun),
          ...(response.writableFinished ? {} : { aborted: true }),
        },
        'request',
      );
    });
    try {
      await answer(request, response, incoming);
    } catch (error) {
      // A client that went away while it was talking is nobody's fault here.
      const level = request.destroyed && !response.headersSent ? 'debug' : 'error';
      options.log[level]({ err: error, requestId: incoming.requestId }, 'request failed');
      if (response.headersSent) response.destroy();
      else {
        const path = pathOf(request);
        refuse(response, { path, incoming }, 'INTERNAL_SERVER_ERROR', 'Unexpected error');
      }
    }
  };
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? '/').split('?', 1)[0] ?? '/';
}

function refuse(
  response: ServerResponse,
  { path, incoming }: { readonly path: string; readonly incoming: Incoming },
  code: 'BAD_REQUEST' | 'FORBIDDEN' | 'INTERNAL_SERVER_ERROR',
  message: string,
): void {
  const { status, body } = errorFormFor(path)({ code, message });
  if (path === graphqlPath) {
    refuseGraphQL(response, status, message, {
      code,
      ...(code === 'INTERNAL_SERVER_ERROR' ? { requestId: incoming.requestId } : {}),
    });
    return;
  }
  response.writeHead(status, { 'Content-Type': 'application/json; charset=utf-8' });
  response.end(JSON.stringify(body));
}

async function listenOn(server: Server, { host, port }: HttpOptions): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(explain(error, host, port));
    });
    server.listen({ host, port }, resolve);
  });
}

function explain(error: NodeJS.ErrnoException, host: string, port: number): Error {
  switch (error.code) {
    case 'EADDRINUSE':
      return new SettingError(
        'PORT',
        `${port} is in use on ${host}; set another one, or 0 for any`,
      );
    case 'EACCES':
      return new SettingError('PORT', `this user may not listen on ${port}; use one above 1023`);
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return new SettingError('HOST', `${host} is not an address of this machine`);
    default:
      return error;
  }
}
