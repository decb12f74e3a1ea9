import { randomUUID } from 'node:crypto';
import {
  GraphQLError,
  type DocumentNode,
  type ExecutionArgs,
  type ExecutionResult,
  type GraphQLFormattedError,
} from 'graphql';
import { CloseCode, makeServer, type OperationResult, type Server } from 'graphql-ws';
import type { Logger } from 'pino';
import type { AccessWatch } from '../auth/access-watch.ts';
import type { Recognition } from '../auth/recognition.ts';
import { Refusal } from '../errors.ts';
import type { Caller } from '../provisioning/caller.ts';
import { presentError, presentErrors } from '../schema/errors.ts';
import { schema } from '../schema/index.ts';
import { readConnectionCredentials } from './connection-credentials.ts';
import type { GraphQLServer } from './graphql.ts';
import type { Incoming } from './incoming.ts';
import type { ResultStream } from './shared-results.ts';
import { resultStreamOf } from './subscriptions.ts';

export interface ProtocolOptions {
  readonly graphql: GraphQLServer;
  readonly recognise: Recognition;
  readonly access: AccessWatch;
  readonly log: Logger;
  /** From the opening of a socket to its `connection_init`, milliseconds. */
  readonly initMs: number;
}

/** What is known of one socket. */
export interface Connection {
  /** As for a request; each operation gets a request id of its own. */
  readonly incoming: Omit<Incoming, 'requestId'>;
  /** Recognised once, by `connection_init`. */
  caller: Caller | null;
  /** What closes the socket when the caller's credentials hold no more watches until this is called. */
  stopWatching: () => void;
  /** Sends a message; resolves when there is room for the next one. */
  readonly send: (message: string) => Promise<void>;
  /** The same for several messages that begin alike, in UTF-8. */
  readonly sendAll: (beginning: Buffer, rests: readonly Buffer[]) => Promise<void>;
  /** Closes the socket. */
  readonly close: (code: number, reason: string) => void;
}

/** WebSocket's own code for what may pass; after 4403 clients do not come back. */
export const tryAgainLater = 1013;
/** Queries, mutations and subscriptions under way on one socket. */
const maxOperations = 100;

/** GraphQL over `graphql-transport-ws`, through yoga's own parsing, validation and execution. */
export function createProtocol({
  graphql,
  recognise,
  access,
  log,
  initMs,
}: ProtocolOptions): Server<Connection> {
  return makeServer<Record<string, unknown>, Connection>({
    connectionInitWaitTimeout: initMs,

    async onConnect({ extra, connectionParams = {} }) {
      try {
        const caller = await recognise(readConnectionCredentials(connectionParams, extra.incoming));
        extra.caller = caller;
        extra.stopWatching = access.watch(caller, () => {
          extra.close(CloseCode.Forbidden, 'Forbidden');
        });
        return true;
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        const { ipAddress } = extra.incoming;
        log.info({ ipAddress, reason: error.message }, 'websocket credentials refused');
        if (error.code !== 'UNAUTHENTICATED') extra.close(tryAgainLater, 'Try again later');
        return false; // closes with 4403
      }
    },

    // The plugins' own functions travel as the root value, from `onSubscribe` to here.
    execute: (args: ExecutionArgs) => (args.rootValue as Engine).execute(args),
    subscribe: (args: ExecutionArgs) => (args.rootValue as Engine).subscribe(args),

    async onSubscribe({ extra, subscriptions }, _id, { query, operationName, variables }) {
      if (Object.keys(subscriptions).length > maxOperations) return [tooManyOperations()];
      const requestId = randomUUID();
      const incoming = { ...extra.incoming, requestId };
      const { caller } = extra;
      if (caller === null) throw new Error('an operation came before connection_init');
      const engine = graphql.getEnveloped({ incoming, caller });
      try {
        await access.check(caller); // it may have been recognised long ago
        log.info({ requestId, operationName: operationName ?? null }, 'websocket operation');
        const document = engine.parse(query) as DocumentNode;
        const errors = engine.validate(schema, document) as readonly GraphQLError[];
        if (errors.length > 0) return presented(errors, requestId);
        return {
          schema,
          document,
          operationName,
          variableValues: variables,
          contextValue: await engine.contextFactory(),
          rootValue: engine satisfies Engine,
        };
      } catch (error) {
        return [presentError(error, { log, requestId })];
      }
    },

    onOperation({ extra }, id, _payload, { contextValue }) {
      const stream = resultStreamOf(contextValue);
      return stream === null ? undefined : sendTogether(stream, id, extra.sendAll);
    },

    onNext: (_context, _id, _payload, _args, { errors, data, extensions }) =>
      errors && {
        errors: errors.map(withoutHttp),
        ...(data === undefined ? {} : { data }),
        ...(extensions === undefined ? {} : { extensions }),
      },
    onError: (_context, _id, _payload, errors) => errors.map(withoutHttp),
  });

  function presented(errors: readonly GraphQLError[], requestId: string): GraphQLError[] {
    const result: ExecutionResult = presentErrors({ errors }, { log, requestId });
    return [...(result.errors ?? [])];
  }
}

interface Engine {
  readonly execute: (args: ExecutionArgs) => OperationResult;
  readonly subscribe: (args: ExecutionArgs) => OperationResult;
}

/**
 * Sends the results of a subscription as they come, several at once where several are there, each in
 * bytes that are made once for all who get it. What is left for graphql-ws to send are errors, and the end.
 */
function sendTogether(
  stream: ResultStream,
  id: string,
  sendAll: Connection['sendAll'],
): AsyncIterableIterator<ExecutionResult, undefined> {
  const beginning = Buffer.from(`{"id":${JSON.stringify(id)},"type":"next","payload":`);
  let left: readonly ExecutionResult[] = [];
  const rest: AsyncIterableIterator<ExecutionResult, undefined> = {
    [Symbol.asyncIterator]: () => rest,
    async next() {
      for (;;) {
        const failed = left.findIndex(({ errors }) => errors !== undefined);
        const good = failed < 0 ? left : left.slice(0, failed);
        if (good.length > 0) await sendAll(beginning, good.map(endOfMessage));
        const value = failed < 0 ? undefined : left[failed];
        left = failed < 0 ? [] : left.slice(failed + 1);
        if (value !== undefined) return { done: false, value };
        left = await stream.nextSome();
        if (left.length === 0) return { done: true, value: undefined };
      }
    },
    return: () => stream.return(),
  };
  return rest;
}

const ends = new WeakMap<ExecutionResult, Buffer>();

/** The payload of a message, and its end. */
function endOfMessage(result: ExecutionResult): Buffer {
  let end = ends.get(result);
  if (end === undefined) {
    end = Buffer.from(`${JSON.stringify(result)}}`);
    ends.set(result, end);
  }
  return end;
}

function tooManyOperations(): GraphQLError {
  const message = `At most ${maxOperations} operations may be under way on one connection`;
  return new GraphQLError(message, { extensions: { code: 'RATE_LIMITED' } });
}

/** `extensions.http` is for the HTTP transport alone. */
function withoutHttp(error: GraphQLError | GraphQLFormattedError): GraphQLFormattedError {
  const { extensions: all, ...shown } = error instanceof GraphQLError ? error.toJSON() : error;
  const { http: _, ...extensions } = all ?? {};
  return Object.keys(extensions).length === 0 ? shown : { ...shown, extensions };
}
