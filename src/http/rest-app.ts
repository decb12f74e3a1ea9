import { Hono } from 'hono';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import type { Logger } from 'pino';
import type { Recognition } from '../auth/recognition.ts';
import { Refusal } from '../errors.ts';
import type { Caller } from '../provisioning/caller.ts';
import { dialects, errorFormFor } from '../rest/index.ts';
import type { Reply } from '../rest/reply.ts';
import type { Dialect, RestRequest, StreamRoute } from '../rest/route.ts';
import { runRoute, topLevelProblem } from '../rest/run.ts';
import { toGraphQLError } from '../schema/errors.ts';
import { runStream } from '../rest/run-stream.ts';
import { maxBodyBytes, readWholeBody } from './body.ts';
import type { Incoming } from './incoming.ts';
import { eventStreamResponse } from './event-stream-response.ts';
import { executeInProcess, subscribeInProcess, type GraphQLServer } from './graphql.ts';
import {
  createService,
  type RestContext,
  type RestEnv,
  type ServiceOptions,
} from './service-routes.ts';
import type { StreamTimes } from './stream-times.ts';

export interface RestOptions extends ServiceOptions {
  readonly graphql: GraphQLServer;
  readonly recognise: Recognition;
  readonly times: StreamTimes;
  readonly log: Logger;
}

/** Everything but `/graphql`: the contracts' routes, and what stands beside them. */
export function createRestApp(options: RestOptions): Hono<RestEnv> {
  const app = new Hono<RestEnv>();
  const service = createService(options);
  const methods = new Map<string, string[]>([['/docs/:file', ['GET']]]);
  app.get('/docs/:file', (context) => service.docsFile(context, context.req.param('file')));
  for (const route of service.routes) {
    methods.set(route.path, [route.method]);
    app.on(route.method, route.path, (context) => route.answer(context));
  }
  for (const dialect of dialects) {
    for (const route of dialect.routes) {
      methods.set(route.path, [...(methods.get(route.path) ?? []), route.method]);
      app.on(route.method, route.path, async (context) => {
        const incoming = context.env.incomingRequest;
        incoming.apiKeyOnCreate = dialect.apiKeyOnCreate;
        // Before anything of the request is looked at: strangers learn no rules.
        const recognised = await recogniseFor(dialect, incoming, options.recognise);
        if ('reply' in recognised) return send(context, recognised.reply);
        const { caller } = recognised;
        const request = await readRequest(context);
        if (request === null) {
          const message = `A request may have at most ${maxBodyBytes} bytes`;
          const reply = dialect.errors({ code: 'PAYLOAD_TOO_LARGE', message });
          return send(context, { ...reply, headers: { Connection: 'close' } });
        }
        if ('event' in route) {
          return sendEvents(context, dialect, route, { request, caller }, options);
        }
        const reply = await runRoute(dialect, route, request, {
          publicUrl: options.publicUrl,
          execute: (document, variables) =>
            executeInProcess(options.graphql, document, variables, { incoming, caller }),
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

async function recogniseFor(
  { errors, tokenOnly = false }: Dialect,
  incoming: Incoming,
  recognise: Recognition,
): Promise<{ readonly caller: Caller } | { readonly reply: Reply }> {
  try {
    const caller = await recognise(incoming);
    if (tokenOnly && caller.credential.kind !== 'token') {
      throw new Refusal('UNAUTHENTICATED', 'A token (JWT) is required here');
    }
    return { caller };
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    const result = { errors: [toGraphQLError(error)] };
    return {
      reply:
        topLevelProblem(result, errors) ?? errors({ code: error.code, message: error.message }),
    };
  }
}

async function sendEvents(
  context: RestContext,
  dialect: Dialect,
  route: StreamRoute,
  { request, caller }: { readonly request: RestRequest; readonly caller: Caller },
  { graphql, times }: RestOptions,
): Promise<Response> {
  const incoming = context.env.incomingRequest;
  const answer = await runStream(dialect, route, request, (document, variables) =>
    subscribeInProcess(graphql, document, variables, { incoming, caller }),
  );
  if ('status' in answer) return send(context, answer);
  const response = eventStreamResponse(answer, times.keepAliveMs);
  if (request.method === 'HEAD') await response.body?.cancel(); // nobody will read it
  return response;
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
  if (status === 204) return context.body(null, 204, { ...headers });
  return context.json(body, status as ContentfulStatusCode, { ...headers });
}
