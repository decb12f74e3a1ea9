import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { credentialName, looksLikeCredential } from '../auth/credential-names.ts';
import type { RateLimitState } from '../control/rate-limits.ts';

/** What a transport knows of a request before anybody asked who it comes from. */
export interface Incoming {
  readonly requestId: string;
  /** The client's address, as far as the proxies in between are believed. */
  readonly ipAddress: string | null;
  readonly authorization: string | null;
  readonly apiKey: string | null;
  readonly idempotencyKey: string | null;
  /** Puts how the caller stands against a limit into the answer. */
  readonly onRateLimit: (state: RateLimitState) => void;
  /** Aborts when the client is gone, or has its answer. */
  readonly signal: AbortSignal;
  /** Where an answer comes from a REST contract: whether its creations hand out an API key. */
  apiKeyOnCreate: boolean;
}

/**
 * Reads what matters of a Node request, and puts the request id into its response.
 *
 * @param trustedProxies how many proxies in front of us are believed about the client's address
 */
export function describeIncoming(
  request: IncomingMessage,
  response: ServerResponse,
  trustedProxies: number,
): Incoming {
  const requestId = requestIdOf(headerOf(request, 'x-request-id'));
  response.setHeader('X-Request-Id', requestId);
  const gone = new AbortController();
  response.once('close', () => {
    gone.abort();
  });
  return {
    requestId,
    ipAddress: addressOf(request, trustedProxies),
    authorization: authorizationOf(request),
    apiKey: credentialOf(request, 'x-api-key'),
    idempotencyKey: headerOf(request, 'idempotency-key'),
    signal: gone.signal,
    apiKeyOnCreate: true,
    onRateLimit: (state) => {
      // IETF draft-ietf-httpapi-ratelimit-headers.
      const { limit, name, remaining, resetSeconds, windowSeconds } = state;
      response.setHeader('RateLimit-Policy', `"${name}";q=${limit};w=${windowSeconds}`);
      response.setHeader('RateLimit', `"${name}";r=${remaining};t=${resetSeconds}`);
    },
  };
}

/** The same of a request to open a WebSocket, but for what each operation on it has of its own. */
export function describeUpgrade(
  request: IncomingMessage,
  trustedProxies: number,
  signal: AbortSignal,
): Omit<Incoming, 'requestId'> {
  return {
    ipAddress: addressOf(request, trustedProxies),
    authorization: authorizationOf(request),
    apiKey: credentialOf(request, 'x-api-key'),
    idempotencyKey: null, // in the input, or not at all: one key is for one operation
    signal,
    apiKeyOnCreate: true,
    onRateLimit: () => undefined,
  };
}

/** A header's value; several of one name as one. */
export function headerOf(request: IncomingMessage, name: string): string | null {
  const value = request.headers[name];
  return (Array.isArray(value) ? value.join(', ') : value) ?? null;
}

/** All values of a header as they were sent. Of many headers Node keeps the first one alone. */
export function valuesOf(request: IncomingMessage, name: string): readonly string[] {
  return request.headersDistinct[name] ?? [];
}

/** Credentials, of which none may be lost: two of a kind are joined, and thereby no credentials of ours. */
function credentialOf(request: IncomingMessage, name: string): string | null {
  const values = valuesOf(request, name);
  return values.length === 0 ? null : values.join(', ');
}

/**
 * The `Authorization` header. Credentials in the address are not taken, since addresses are logged on their
 * way: they count as a header that is not understood, so that they are refused and not ignored.
 */
function authorizationOf(request: IncomingMessage): string | null {
  const given = credentialOf(request, 'authorization');
  if (given !== null || credentialOf(request, 'x-api-key') !== null) return given;
  const [, query = ''] = (request.url ?? '').split('?', 2);
  const names = [...new URLSearchParams(query).keys()];
  const isPresented = names.some(
    (name) => credentialName(name) !== null || looksLikeCredential(name),
  );
  return isPresented ? '' : null;
}

// Given ids go into logs and answers: no more than a plain token is taken over.
function requestIdOf(given: string | null): string {
  return given !== null && /^[\w.:/+=-]{1,128}$/.test(given) ? given : randomUUID();
}

/** An IPv6 address with its zone. What a proxy passes on need not be an address at all. */
const maxAddressLength = 64;

function addressOf(request: IncomingMessage, trustedProxies: number): string | null {
  const direct = request.socket.remoteAddress ?? null;
  if (trustedProxies === 0) return direct;
  const hops = (headerOf(request, 'x-forwarded-for') ?? '')
    .split(',')
    .map((hop) => hop.trim())
    .filter((hop) => hop !== '');
  // Each proxy appends whom it talked to; further left stands what clients may have made up.
  const address = hops.at(-trustedProxies) ?? hops[0] ?? direct;
  return address?.slice(0, maxAddressLength) ?? null;
}
