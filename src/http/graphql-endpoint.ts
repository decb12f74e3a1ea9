import type { IncomingMessage, ServerResponse } from 'node:http';
import { maxBodyBytes, readWholeBody } from './body.ts';
import type { GraphiQLPage } from './graphiql.ts';
import type { GraphQLServer } from './graphql.ts';
import { headerOf, type Incoming } from './incoming.ts';

/**
 * Serves `/graphql`: the page for a browser, and everything else through yoga. What yoga would take
 * and we do not (forms, multipart, other encodings) is refused before it sees the request.
 */
export async function serveGraphQL(
  request: IncomingMessage,
  response: ServerResponse,
  incoming: Incoming,
  {
    graphql,
    graphiql,
  }: { readonly graphql: GraphQLServer; readonly graphiql: GraphiQLPage | null },
): Promise<void> {
  if (graphiql !== null && request.method === 'GET' && wantsPage(request)) {
    graphiql.serve(request, response);
    return;
  }
  if (request.method === 'POST') {
    const mediaType = headerOf(request, 'content-type')?.split(';', 1)[0]?.trim().toLowerCase();
    if (mediaType !== 'application/json') {
      refuse(response, 415, 'Content-Type must be application/json');
      return;
    }
    const body = await readWholeBody(request);
    if (body === null) {
      response.setHeader('Connection', 'close');
      refuse(response, 413, `A request may have at most ${maxBodyBytes} bytes`);
      return;
    }
    const text = decoded(body);
    if (text === null) {
      refuse(response, 400, 'The body must be UTF-8');
      return;
    }
    Object.assign(request, { body: text }); // where yoga looks for a body that was read already
  }
  await graphql(request, response, { incoming });
}

function wantsPage(request: IncomingMessage): boolean {
  const accept = headerOf(request, 'accept') ?? '';
  return accept.includes('text/html') && !/[?&]query=/.test(request.url ?? '');
}

function decoded(body: Buffer): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(body);
  } catch {
    return null;
  }
}

function refuse(response: ServerResponse, status: number, message: string): void {
  response.writeHead(status, { 'Content-Type': 'application/json; charset=utf-8' });
  response.end(JSON.stringify({ errors: [{ message, extensions: { code: 'BAD_REQUEST' } }] }));
}
