import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Recognition } from '../auth/recognition.ts';
import { Refusal } from '../errors.ts';
import type { Caller } from '../provisioning/caller.ts';
import { compressedMessage, isCompressed, mediaTypeOf } from '../rest/body.ts';
import { toGraphQLError } from '../schema/errors.ts';
import { maxBodyBytes, readWholeBody } from './body.ts';
import type { GraphiQLPage } from './graphiql.ts';
import type { GraphQLServer } from './graphql.ts';
import { headerOf, valuesOf, type Incoming } from './incoming.ts';

export const graphqlPath = '/graphql';

export interface GraphQLEndpointOptions {
  readonly graphql: GraphQLServer;
  readonly graphiql: GraphiQLPage | null;
  readonly recognise: Recognition;
}

/**
 * Serves `/graphql`: the page for a browser, and everything else through yoga. What yoga would take
 * and we do not (forms, multipart, other encodings) is refused before it sees the request.
 */
export async function serveGraphQL(
  request: IncomingMessage,
  response: ServerResponse,
  incoming: Incoming,
  { graphql, graphiql, recognise }: GraphQLEndpointOptions,
): Promise<void> {
  if (graphiql !== null && request.method === 'GET' && wantsPage(request)) {
    await graphiql.serve(request, response);
    return;
  }
  let caller: Caller;
  try {
    caller = await recognise(incoming);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    const { message, extensions } = toGraphQLError(error);
    const { http, code } = extensions as unknown as RefusedExtensions;
    for (const [name, value] of Object.entries(http.headers)) response.setHeader(name, value);
    refuseGraphQL(response, http.status, message, { code });
    return;
  }
  if (request.method === 'POST') {
    if (isCompressed(headerOf(request, 'content-encoding'))) {
      refuseGraphQL(response, 415, compressedMessage, badRequest);
      return;
    }
    const contentTypes = valuesOf(request, 'content-type');
    if (contentTypes.length > 1 || mediaTypeOf(contentTypes[0] ?? null) !== 'application/json') {
      refuseGraphQL(response, 415, 'Content-Type must be application/json', badRequest);
      return;
    }
    const body = await readWholeBody(request);
    if (body === null) {
      response.setHeader('Connection', 'close');
      const message = `A request may have at most ${maxBodyBytes} bytes`;
      refuseGraphQL(response, 413, message, badRequest);
      return;
    }
    const text = jsonText(body);
    if (text === null) {
      refuseGraphQL(response, 400, 'The body must be JSON in UTF-8', badRequest);
      return;
    }
    request.headers['content-type'] = 'application/json'; // yoga compares it letter by letter
    Object.assign(request, { body: text }); // where yoga looks for a body that was read already
  }
  if (request.method === 'GET' && !hasJsonParameters(request)) {
    refuseGraphQL(response, 400, 'variables and extensions must be JSON', badRequest);
    return;
  }
  await graphql(request, response, { incoming, caller });
}

function wantsPage(request: IncomingMessage): boolean {
  const accept = headerOf(request, 'accept') ?? '';
  return accept.includes('text/html') && !/[?&]query=/.test(request.url ?? '');
}

/** Yoga takes what is no JSON here for an error of its own. */
function hasJsonParameters(request: IncomingMessage): boolean {
  const { searchParams } = new URL(request.url ?? '/', 'http://localhost');
  const texts = ['variables', 'extensions'].flatMap((name) => searchParams.getAll(name));
  return texts.every((text) => text === '' || isJson(text));
}

/** Null: no JSON. Yoga would tell so too, but with the parser's own words in the answer. */
function jsonText(body: Buffer): string | null {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(body);
    return isJson(text) ? text : null;
  } catch {
    return null;
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

interface RefusedExtensions {
  readonly code: string;
  readonly http: { readonly status: number; readonly headers: Readonly<Record<string, string>> };
}

const badRequest = { code: 'BAD_REQUEST' } as const;

/** Answers a request that never came to GraphQL in GraphQL's form. */
export function refuseGraphQL(
  response: ServerResponse,
  status: number,
  message: string,
  extensions: { readonly code: string; readonly requestId?: string },
): void {
  response.writeHead(status, { 'Content-Type': 'application/json; charset=utf-8' });
  response.end(JSON.stringify({ errors: [{ message, extensions }] }));
}
