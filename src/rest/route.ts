import type { ExecutionResult } from 'graphql';
import type { z } from 'zod';
import type { Failure } from '../errors.ts';
import type { DialectDocs, RouteDocs } from './docs.ts';
import type { ErrorForm } from './errors.ts';
import type { Reply } from './reply.ts';

/** A request as routes see it: no framework. */
export interface RestRequest {
  readonly method: string;
  /** Values of the path's `:names`. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  /** A header's value, by its name in any case; null: absent. */
  readonly header: (name: string) => string | null;
  /** The body as it came; empty without one. */
  readonly body: Uint8Array;
}

/** What a route makes its variables from. */
export interface RouteInput<Body, Query = unknown> {
  readonly body: Body;
  readonly params: Readonly<Record<string, string>>;
  /** As the route's `query` rules see it. */
  readonly query: Query;
  /** Id of the tenant that the path names, found by `tenantKey`; empty without one. */
  readonly tenantId: string;
  /** The version that `If-Match` names, on routes that read it; null: any. */
  readonly expectedVersion: number | null;
  /** False on `Prefer: respond-async`. */
  readonly wait: boolean;
  /** In front of paths in links; empty: paths alone. */
  readonly publicUrl: string;
}

/** What a mutation's payload has in common; `null` on queries that found nothing. */
export interface MutationPayload {
  readonly userErrors: readonly Failure[];
  readonly operation?: OperationResult | null;
  readonly batch?: { readonly id: string } | null;
}

/** The selection `operationFields` (see operations.ts). */
export interface OperationResult {
  readonly id: string;
  readonly kind: string;
  readonly status: string;
  readonly percent: number;
  readonly steps: readonly {
    readonly name: string;
    readonly status: string;
    readonly attempts: number;
    readonly startedAt: string | null;
    readonly finishedAt: string | null;
    readonly durationMs: number | null;
  }[];
  readonly tenant: { readonly id: string } | null;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly createdAt: string;
  readonly startedAt: string | null;
  readonly finishedAt: string | null;
  readonly durationMs: number | null;
}

/** One route of a contract: how a request becomes a GraphQL execution, and its result a response. */
export interface Route<Body = unknown, Data = Record<string, unknown>, Query = unknown> {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Path with `:names` for its parameters. */
  readonly path: string;
  /** Rules of the JSON body; absent: the route takes none. */
  readonly body?: z.ZodType<Body>;
  /** Rules of the query string, each parameter a text; absent: the route reads none. */
  readonly query?: z.ZodType<Query>;
  /**
   * Name of the path parameter that names a tenant by slug, number or UUID, where the document needs
   * its id: it is looked up first, and not there is 404.
   */
  readonly tenantKey?: string;
  /** Whether it takes `If-Match`: its mutation gets the version that is named there. */
  readonly ifMatch?: boolean;
  /** Whether what was refused is so because it is not there for this contract: 404. */
  readonly isGone?: (data: Data) => boolean;
  /** Where another contract has a route of the same method and path: whether a JSON body is this one's. */
  readonly takes?: (json: unknown) => boolean;
  /** Answer to a mutation that was refused, where it is not the contract's usual one. */
  readonly refuse?: (failures: readonly Failure[], input: RouteInput<Body, Query>) => Reply | null;
  /** The GraphQL document it runs, with one root field. */
  readonly document: string;
  readonly variables: (input: RouteInput<Body, Query>) => Readonly<Record<string, unknown>>;
  /** Response to a result without problems. Null: what was asked for is not there. */
  readonly respond: (data: Data, input: RouteInput<Body, Query>) => Reply | null;
  /** What `/openapi.json` tells of it beyond all this. */
  readonly docs: RouteDocs;
}

/** One server-sent event; `body` goes out as JSON. */
export interface ServerSentEvent {
  /** For `Last-Event-ID`; null: a client cannot go on from it. */
  readonly id: string | null;
  /** Its type: what an `EventSource` listens for. */
  readonly event: string;
  readonly body: unknown;
}

/** A route that answers with server-sent events: one for each result of a subscription. */
export interface StreamRoute<Data = Record<string, unknown>> {
  readonly method: 'GET';
  readonly path: string;
  /** The GraphQL subscription it runs. */
  readonly document: string;
  /** `after`: the `Last-Event-ID` of a client that goes on; null: it begins. */
  readonly variables: (input: {
    readonly params: Readonly<Record<string, string>>;
    readonly after: number | null;
  }) => Readonly<Record<string, unknown>>;
  readonly event: (data: Data) => ServerSentEvent;
  readonly docs: RouteDocs;
}

/** What `/openapi.json` needs of a route; one that is no contract's runs no document. */
export type DocumentedRoute = Pick<Route, 'method' | 'path' | 'docs'> &
  Partial<Pick<Route, 'body' | 'query' | 'document' | 'ifMatch'>>;

/** A contract: a table of routes, and the form of its errors. */
export interface Dialect {
  readonly name: string;
  /** Paths that begin like this and lead nowhere get this contract's error form. */
  readonly prefix: string;
  readonly errors: ErrorForm;
  /** Whether its creations hand out an API key. */
  readonly apiKeyOnCreate: boolean;
  /** Whether callers need a token, whatever else would let them in. */
  readonly tokenOnly?: boolean;
  readonly docs: DialectDocs;
  readonly routes: readonly (Route | StreamRoute)[];
}

/** Runs a parsed document through the gateway's own execution, with every plugin that applies. */
export type Execute = (
  document: string,
  variables: Readonly<Record<string, unknown>>,
) => Promise<ExecutionResult>;

/** Keeps a route's own types while it is written, and gives it the table's type. */
export function route<Body, Data, Query = unknown>(definition: Route<Body, Data, Query>): Route {
  return definition as unknown as Route;
}

/** The same for a route that streams. */
export function streamRoute<Data>(definition: StreamRoute<Data>): StreamRoute {
  return definition as unknown as StreamRoute;
}
