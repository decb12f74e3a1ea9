// How the settings that prove tokens are read.
import { publicKeyProblem } from '../crypto/tokens.ts';
import { isLoopback } from '../auth/loopback.ts';

/** An address of keys: https, or http on this machine. */
export function jwksUrl(text: string): URL | undefined {
  const url = URL.parse(text);
  if (url === null) return undefined;
  if (url.username !== '' || url.password !== '' || url.hash !== '') return undefined;
  const local = url.protocol === 'http:' && isLoopback(url.hostname.replace(/^\[(.*)\]$/, '$1'));
  return url.protocol === 'https:' || local ? url : undefined;
}

/** A PEM; in one line, with `\n` in the place of its ends of lines, as well. */
export function publicKey(text: string): string | undefined {
  const pem = text.replaceAll('\\n', '\n');
  return publicKeyProblem(pem) === null ? pem : undefined;
}

/** A secret of at least 256 bits. */
export function tokenSecret(text: string): Uint8Array | undefined {
  const bytes = new TextEncoder().encode(text);
  return bytes.length >= 32 ? bytes : undefined;
}

/** The name of a claim, or a path to it. */
export function claimName(text: string): string | undefined {
  return text !== '' && text.length <= 255 ? text : undefined;
}
