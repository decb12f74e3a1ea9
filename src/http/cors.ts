import type { IncomingMessage, ServerResponse } from 'node:http';
import { headerOf } from './incoming.ts';

/** What a page of another origin may read of an answer, besides its body. */
const exposedHeaders =
  'ETag, Link, Location, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, X-Request-Id';

/**
 * Lets browsers call from the listed origins. Any other gets no header at all: not `null` either,
 * which is the origin of anybody's sandboxed page.
 *
 * @returns whether this was a preflight request, which is answered
 */
export function applyCors(
  request: IncomingMessage,
  response: ServerResponse,
  origins: readonly string[],
): boolean {
  if (origins.length === 0) return false;
  response.appendHeader('Vary', 'Origin');
  const origin = headerOf(request, 'origin');
  if (origin === null || !origins.includes(origin)) return false;
  response.setHeader('Access-Control-Allow-Origin', origin);
  response.setHeader('Access-Control-Allow-Credentials', 'true');
  response.setHeader('Access-Control-Expose-Headers', exposedHeaders);
  const asked = headerOf(request, 'access-control-request-method');
  if (request.method !== 'OPTIONS' || asked === null) return false;
  response.setHeader('Access-Control-Allow-Methods', asked);
  response.setHeader(
    'Access-Control-Allow-Headers',
    headerOf(request, 'access-control-request-headers') ?? '',
  );
  response.setHeader('Access-Control-Max-Age', 600);
  response.writeHead(204).end();
  return true;
}
