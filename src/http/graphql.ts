import {
  GraphQLError,
  NoSchemaIntrospectionCustomRule,
  parse,
  type ExecutionResult,
  type Source,
} from 'graphql';
import { createYoga, isAsyncIterable, type Plugin, type YogaServerInstance } from 'graphql-yoga';
import type { AccessWatch } from '../auth/access-watch.ts';
import type { Caller } from '../provisioning/caller.ts';
import type { Context, Gateway } from '../schema/context.ts';
import { presentErrors } from '../schema/errors.ts';
import { schema } from '../schema/index.ts';
import { limitsRule, refuseLongDocument } from '../schema/limits.ts';
import { createLoaders } from '../schema/loaders.ts';
import { DocumentCache, useDocumentCache } from './document-cache.ts';
import type { Incoming } from './incoming.ts';
import type { ResultStream } from './shared-results.ts';
import { resultStreamOf, subscriptionErrors } from './subscriptions.ts';

export interface GraphQLOptions {
  readonly gateway: Gateway;
  readonly access: AccessWatch;
  readonly introspection: boolean;
  /** Keeps callers' documents; default: a cache of its own. */
  readonly documents?: DocumentCache;
}

/** A request, and who makes it. */
export interface ServerContext {
  readonly incoming: Incoming;
  /** Recognised before anything of the document was looked at: strangers learn nothing from it. */
  readonly caller: Caller;
}

export type GraphQLServer = YogaServerInstance<ServerContext, Context>;

/** The one GraphQL engine: what serves `/graphql` and runs the documents of REST. */
export function createGraphQL(options: GraphQLOptions): GraphQLServer {
  return createYoga<ServerContext, Context>({
    schema,
    graphqlEndpoint: '/graphql',
    graphiql: false, // served by us, compressed and cached
    landingPage: false,
    parserAndValidationCache: false, // counts documents, not bytes: see document-cache.ts
    batching: false,
    multipart: false,
    logging: false,
    cors: false, // one policy for everything: cors.ts
    context: (given) => createContext(given, options.gateway),
    plugins: [
      limits(options.introspection),
      useDocumentCache(options.documents ?? new DocumentCache()),
      errors(options.gateway),
      subscriptionErrors({ log: options.gateway.log, access: options.access }),
    ],
    maskedErrors: { maskError },
  });
}

/** Runs a query or mutation for a request that came in otherwise, with every plugin that applies. */
export async function executeInProcess(
  server: GraphQLServer,
  document: string,
  variables: Readonly<Record<string, unknown>>,
  request: ServerContext,
): Promise<ExecutionResult> {
  return runInProcess(server, request, ({ execute }, contextValue) => {
    const args = { schema, document: parsed(document), variableValues: variables, contextValue };
    return execute(args) as Promise<ExecutionResult>;
  });
}

/** Begins a subscription likewise; one result with errors when it does not begin. */
export async function subscribeInProcess(
  server: GraphQLServer,
  document: string,
  variables: Readonly<Record<string, unknown>>,
  request: ServerContext,
): Promise<ExecutionResult | ResultStream> {
  return runInProcess(server, request, async ({ subscribe }, contextValue) => {
    const args = { schema, document: parsed(document), variableValues: variables, contextValue };
    const result = (await subscribe(args)) as ExecutionResult | ResultStream;
    return resultStreamOf(contextValue) ?? result;
  });
}

async function runInProcess<T>(
  server: GraphQLServer,
  request: ServerContext,
  run: (engine: ReturnType<GraphQLServer['getEnveloped']>, contextValue: unknown) => Promise<T>,
): Promise<T> {
  const engine = server.getEnveloped({ ...request });
  return run(engine, await engine.contextFactory());
}

const documents = new Map<string, ReturnType<typeof parse>>();

/** The documents of routes are few and fixed: each is parsed once. */
function parsed(document: string): ReturnType<typeof parse> {
  let node = documents.get(document);
  if (node === undefined) {
    node = parse(document);
    documents.set(document, node);
  }
  return node;
}

function createContext({ caller, incoming }: ServerContext, gateway: Gateway): Context {
  return {
    caller,
    gateway,
    loaders: createLoaders(gateway, caller, incoming.signal),
    requestId: incoming.requestId,
    ipAddress: incoming.ipAddress,
    idempotencyKey: incoming.idempotencyKey,
    apiKeyOnCreate: incoming.apiKeyOnCreate,
    onRateLimit: incoming.onRateLimit,
    signal: incoming.signal,
  };
}

/** Limits on documents. Parsing and validation run on every transport; request hooks do not. */
function limits(introspection: boolean): Plugin {
  return {
    onParse({ params }) {
      const { source } = params as { readonly source: string | Source };
      refuseLongDocument(typeof source === 'string' ? source : source.body);
    },
    onValidate({ addValidationRule }) {
      addValidationRule(limitsRule);
      if (!introspection) addValidationRule(NoSchemaIntrospectionCustomRule);
    },
  };
}

/** Makes the errors of every result fit to be shown, with the id that the log has too. */
function errors({ log }: Gateway): Plugin<Context, ServerContext> {
  return {
    onExecute({ args }) {
      const { requestId } = args.contextValue;
      return {
        onExecuteDone({ result, setResult }) {
          if (!isAsyncIterable(result)) setResult(presentErrors(result, { log, requestId }));
        },
      };
    },
    // What failed before it came to execution, as early as when the request was read.
    onResultProcess(answering) {
      const { result, serverContext } = answering;
      if (Array.isArray(result) || isAsyncIterable(result)) return;
      const { requestId } = serverContext.incoming;
      answering.setResult(presentErrors(result, { log, requestId }));
    },
  };
}

// `errors` makes them fit to be shown: here an unexpected error is only kept from being shown as it is.
function maskError(error: unknown): Error {
  if (error instanceof GraphQLError) return error;
  return new GraphQLError('Unexpected error', { cause: error });
}
