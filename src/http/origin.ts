import type { IncomingMessage } from 'node:http';
import { isLoopbackHost } from './host.ts';
import { headerOf } from './incoming.ts';

/** Which pages may send requests that change something. */
export interface OriginRules {
  /** Origins of other sites whose pages may. */
  readonly corsOrigins: readonly string[];
  /** Where this gateway is to be found from outside; empty: unknown. */
  readonly publicUrl: string;
  /** Open mode: pages of this machine may as well. */
  readonly loopbackOnly: boolean;
}

/** Methods that change nothing. */
const safeMethods: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS']);

/**
 * Checks where a request that changes something comes from (cross-site request forgery). Any page may have
 * a browser send such a request, with the rights of whoever sits in front of it; the browser says from where.
 *
 * @returns why it is refused, for the client; null: it is not
 */
export function checkOrigin(request: IncomingMessage, rules: OriginRules): string | null {
  if (safeMethods.has(request.method ?? '')) return null;
  const origin = headerOf(request, 'origin');
  if (origin === null) {
    const site = headerOf(request, 'sec-fetch-site')?.trim().toLowerCase();
    return site === 'cross-site' ? 'Requests from another site are refused' : null;
  }
  if (isOwnOrListed(origin, headerOf(request, 'host'), rules)) return null;
  if (rules.loopbackOnly && isLoopbackOrigin(origin)) return null;
  return 'Requests from this Origin are refused; CORS_ORIGINS lists those that may';
}

/** Whether an origin is that of this gateway's own pages, or one that is listed. */
export function isOwnOrListed(
  origin: string,
  host: string | null,
  { corsOrigins, publicUrl }: Pick<OriginRules, 'corsOrigins' | 'publicUrl'>,
): boolean {
  const url = parseOrigin(origin);
  if (url === null) return false;
  return (
    corsOrigins.includes(origin) ||
    url.origin === URL.parse(publicUrl)?.origin ||
    // A proxy may have taken TLS away: which scheme the page has is not known here.
    (host !== null && url.host === URL.parse(`${url.protocol}//${host}`)?.host)
  );
}

function isLoopbackOrigin(origin: string): boolean {
  const url = parseOrigin(origin);
  return url !== null && isLoopbackHost(url.host);
}

/** An origin as browsers write it. `null`, which any sandboxed page has, is none. */
function parseOrigin(text: string): URL | null {
  const url = /^https?:/.test(text) ? URL.parse(text) : null;
  return url?.origin === text ? url : null;
}
