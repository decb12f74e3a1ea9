import { isIPv6 } from 'node:net';
import type { IncomingMessage } from 'node:http';
import { valuesOf } from './incoming.ts';

/**
 * Checks what a request is sent to, and writes it into the request in the one form that everything behind
 * expects: a path in `url`, a normalised authority in `headers.host`. Whatever the libraries behind cannot
 * parse would end there as an error of theirs, with a stack trace in the answer.
 *
 * @returns what is wrong with it, for the client; null: nothing
 */
export function checkTarget(request: IncomingMessage): string | null {
  const hosts = valuesOf(request, 'host');
  const [given] = hosts;
  if (given === undefined) return 'The Host header is missing';
  if (hosts.length > 1) return 'The Host header is given more than once';
  const url = request.url ?? '';
  const absolute = /^https?:\/\/([^/?#]*)(.*)$/i.exec(url);
  // A target in absolute form, as proxies send it, overrides the header (RFC 9112, 3.2.2).
  const path = absolute === null ? url : `/${(absolute[2] ?? '').replace(/^\//, '')}`;
  const host = parseAuthority(absolute?.[1] ?? given);
  if (host === null || parseAuthority(given) === null) return noAuthority;
  // Before the query, browsers take a backslash for a slash; the libraries behind do not agree on it.
  const isPath = path.startsWith('/') && !path.split('?', 1)[0]?.includes('\\');
  if (!isPath || !URL.canParse(`http://${host}${path}`)) return 'The request target must be a path';
  request.url = path;
  request.headers.host = host;
  return null;
}

const noAuthority = 'The Host header must be a name or address, with or without a port';

/** A host with its port, as the URL standard writes it; null: it is no authority of a web address. */
export function parseAuthority(text: string): string | null {
  const [, literal, name] = authorityForm.exec(text) ?? [];
  const url = URL.parse(`http://${text}/`);
  if (url === null) return null;
  if (literal !== undefined) return isIPv6(literal) ? url.host : null;
  // `127.1` and `0x7f.1` are addresses in disguise: nothing behind has to know how to read them.
  return name?.toLowerCase() === url.hostname ? url.host : null;
}

const authorityForm = /^(?:\[([0-9a-f:.]+)\]|([\w.-]+))(?::\d{1,5})?$/i;
