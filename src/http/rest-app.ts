import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { Hono } from 'hono';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import type { Logger } from 'pino';
import type { Recognition } from '../auth/recognition.ts';
import { Refusal } from '../errors.ts';
import type { Caller } from '../provisioning/caller.ts';
import { dialects, errorFormFor } from '../rest/index.ts';
import type { Reply } from '../rest/reply.ts';
import type { Dialect, RestRequest, Route, StreamRoute } from '../rest/route.ts';
import { runRoute, topLevelProblem } from '../rest/run.ts';
import { toGraphQLError } from '../schema/errors.ts';
import { runStream } from '../rest/run-stream.ts';
import { maxBodyBytes, readWholeBody } from './body.ts';
import type { Incoming } from './incoming.ts';
import { eventStreamHeaders, sendEventStream } from './event-stream.ts';
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
  for (const { method, path, served } of places()) {
    methods.set(path, [...(methods.get(path) ?? []), method]);
    app.on(method, path, async (context) => {
      const incoming = context.env.incomingRequest;
      // Before anything of the request is looked at: strangers learn no rules.
      const recognised = await recogniseFor(served[0].dialect, incoming, options.recognise);
      if ('reply' in recognised) return send(context, recognised.reply);
      const { caller } = recognised;
      const request = await readRequest(context);
      if (request === null) {
        const message = `A request may have at most ${maxBodyBytes} bytes`;
        const reply = served[0].dialect.errors({ code: 'PAYLOAD_TOO_LARGE', message });
        return send(context, { ...reply, headers: { Connection: 'close' } });
      }
      const { dialect, route } = servedTo(served, request);
      incoming.apiKeyOnCreate = dialect.apiKeyOnCreate;
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

interface Served {
  readonly dialect: Dialect;
  readonly route: Route | StreamRoute;
}

type Rivals = readonly [Served, ...Served[]];

/** Every method and path that contracts serve; where several do, the body decides. */
function places(): { readonly method: string; readonly path: string; readonly served: Rivals }[] {
  const all = dialects.flatMap((dialect) => dialect.routes.map((route) => ({ dialect, route })));
  return [...Map.groupBy(all, ({ route }) => `${route.method} ${route.path}`).values()].map(
    (served) => {
      const [{ route }] = served as [Served, ...Served[]];
      return { method: route.method, path: route.path, served: served as [Served, ...Served[]] };
    },
  );
}

function servedTo(served: Rivals, request: RestRequest): Served {
  if (served.length === 1) return served[0];
  const json = jsonOf(request);
  const isTaken = ({ route }: Served): boolean => 'takes' in route && route.takes(json);
  return served.find(isTaken) ?? served.at(-1) ?? served[0];
}

/** The body, to tell contracts apart; whoever reads it in earnest tells what is wrong with it. */
function jsonOf({ body }: RestRequest): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(body));
  } catch {
    return null;
  }
}

async function sendEvents(
  context: RestContext,
  dialect: Dialect,
  route: StreamRoute,
  { request, caller }: { readonly request: RestRequest; readonly caller: Caller },
  { graphql, log, times }: RestOptions,
): Promise<Response> {
  const incoming = context.env.incomingRequest;
  const answer = await runStream(dialect, route, request, (document, variables) =>
    subscribeInProcess(graphql, document, variables, { incoming, caller }),
  );
  if ('status' in answer) return send(context, answer);
  if (request.method === 'HEAD') {
    await answer.return();
    return context.body(null, 200, eventStreamHeaders);
  }
  const { outgoing } = context.env;
  const { requestId, signal } = incoming;
  await sendEventStream(outgoing, answer, { keepAliveMs: times.keepAliveMs, signal }).catch(
    (error: unknown) => {
      log.error({ err: error, requestId }, 'a stream of events broke off');
      outgoing.destroy(); // its status was sent long ago
    },
  );
  return RESPONSE_ALREADY_SENT;
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
