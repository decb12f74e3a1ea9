import type { HttpBindings } from '@hono/node-server';
import { Hono, type Context } from 'hono';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import type { Logger } from 'pino';
import { dialects, errorFormFor } from '../rest/index.ts';
import type { Reply } from '../rest/reply.ts';
import type { RestRequest } from '../rest/route.ts';
import { runRoute } from '../rest/run.ts';
import { maxBodyBytes, readWholeBody } from './body.ts';
import { executeInProcess, type GraphQLServer } from './graphql.ts';
import type { Incoming } from './incoming.ts';

export interface RestOptions {
  readonly graphql: GraphQLServer;
  readonly publicUrl: string;
  readonly health: HealthChecks;
  readonly log: Logger;
}

/** What the health endpoints ask. */
export interface HealthChecks {
  /** Whether requests can be served, and what is in the way. */
  ready(): Promise<{ readonly ready: boolean; readonly checks: Readonly<Record<string, string>> }>;
}

interface Env {
  Bindings: HttpBindings & { incomingRequest: Incoming };
}
type RestContext = Context<Env>;

/** Everything but `/graphql`: the contracts' routes and the health endpoints. */
export function createRestApp(options: RestOptions): Hono<Env> {
  const app = new Hono<Env>();
  app.get('/livez', (context) => context.json({ status: 'ok' }));
  app.get('/readyz', async (context) => {
    const { ready, checks } = await options.health.ready();
    return context.json({ status: ready ? 'ok' : 'unavailable', checks }, ready ? 200 : 503);
  });

  const methods = new Map<string, string[]>([
    ['/livez', ['GET']],
    ['/readyz', ['GET']],
  ]);
  for (const dialect of dialects) {
    for (const route of dialect.routes) {
      methods.set(route.path, [...(methods.get(route.path) ?? []), route.method]);
      app.on(route.method, route.path, async (context) => {
        const incoming = context.env.incomingRequest;
        incoming.apiKeyOnCreate = dialect.apiKeyOnCreate;
        const request = await readRequest(context);
        if (request === null) {
          const message = `A request may have at most ${maxBodyBytes} bytes`;
          const reply = dialect.errors({ code: 'PAYLOAD_TOO_LARGE', message });
          return send(context, { ...reply, headers: { Connection: 'close' } });
        }
        const reply = await runRoute(dialect, route, request, {
          publicUrl: options.publicUrl,
          execute: (document, variables) =>
            executeInProcess(options.graphql, document, variables, incoming),
        });
        return send(context, reply);
      });
    }
  }
  for (const [path, allowed] of methods) {
    app.all(path, (context) => {
      const Allow = allowed.includes('GET') ? [...allowed, 'HEAD'] : allowed;
      const message = `${context.req.method} is not allowed here`;
      const reply = errorFormFor(path)({ code: 'METHOD_NOT_ALLOWED', message });
      return send(context, { ...reply, headers: { Allow: Allow.join(', ') } });
    });
  }
  app.notFound((context) =>
    send(context, errorFormFor(context.req.path)({ code: 'NOT_FOUND', message: 'Not Found' })),
  );
  app.onError((error, context) => {
    const { requestId } = context.env.incomingRequest;
    options.log.error({ err: error, requestId, path: context.req.path }, 'request failed');
    const problem = { code: 'INTERNAL_SERVER_ERROR', message: 'Unexpected error' } as const;
    return send(context, errorFormFor(context.req.path)(problem));
  });
  return app;
}

async function readRequest(context: RestContext): Promise<RestRequest | null> {
  const { method } = context.req;
  const body = await readWholeBody(context.env.incoming);
  if (body === null) return null;
  return {
    method,
    params: context.req.param(),
    query: new URL(context.req.url).searchParams,
    header: (name) => context.req.header(name) ?? null,
    body,
  };
}

function send(context: RestContext, { status, body, headers }: Reply): Response {
  return context.json(body, status as ContentfulStatusCode, { ...headers });
}
