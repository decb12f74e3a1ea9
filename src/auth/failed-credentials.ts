import { createHash } from 'node:crypto';
import { isIP } from 'node:net';
import type { RateLimit } from '../control/rate-limits.ts';
import { Refusal } from '../errors.ts';
import type { Presented, Recognition } from './recognition.ts';

/** Credentials that proved good lately, and addresses that are shut out, each at most so many. */
const maxRemembered = 10_000;

/**
 * Limits bad credentials by the address that they come from. Only failures count. Over the limit the
 * address is shut out until the window ends: whatever else it presents is refused unseen, but for what
 * proved good here before, so that nobody shuts out those behind the same address.
 *
 * @param limit shared by all instances
 * @returns a function that rejects with Refusal RATE_LIMITED besides
 */
export function limitFailures(recognise: Recognition, limit: RateLimit): Recognition {
  const shutOut = new Map<string, number>();
  const good = new Map<string, true>();

  return async (presented) => {
    const { authorization, apiKey } = presented;
    if (authorization === null && apiKey === null) return recognise(presented);
    const address = addressGroup(presented.ipAddress);
    const hash = hashOf(presented);
    const until = shutOut.get(address) ?? 0;
    if (until > Date.now() && !good.has(hash)) throw tooMany(until);
    try {
      const caller = await recognise(presented);
      remember(good, hash, true);
      return caller;
    } catch (error) {
      if (!(error instanceof Refusal) || error.code !== 'UNAUTHENTICATED') throw error;
      good.delete(hash);
      const { allowed, resetSeconds } = await limit.consume(address, 1);
      if (allowed) throw error;
      const end = Date.now() + resetSeconds * 1000;
      remember(shutOut, address, end);
      throw tooMany(end);
    }
  };
}

function tooMany(until: number): Refusal {
  const seconds = Math.max(1, Math.ceil((until - Date.now()) / 1000));
  return new Refusal('RATE_LIMITED', 'Too many bad credentials from this address', seconds);
}

function remember<T>(map: Map<string, T>, key: string, value: T): void {
  map.delete(key);
  for (const oldest of map.keys()) {
    if (map.size < maxRemembered) break;
    map.delete(oldest);
  }
  map.set(key, value);
}

function hashOf({ authorization, apiKey }: Presented): string {
  return createHash('sha256')
    .update(JSON.stringify([authorization, apiKey]))
    .digest('base64');
}

/**
 * Whom a count is kept for: an IPv4 address, or the 64 bits of an IPv6 address that one customer of a
 * provider has to himself. What a proxy wrote and is no address counts as one.
 */
export function addressGroup(address: string | null): string {
  const text = (address ?? '').replace(/^::ffff:(?=\d+\.)/i, '');
  switch (isIP(text)) {
    case 4:
      return text;
    case 6:
      return firstGroups(text);
    default:
      return 'unknown';
  }
}

function firstGroups(address: string): string {
  // As the URL standard writes it: shortened, in lower case, without a zone.
  const { hostname } = new URL(`http://[${address.replace(/%.*$/, '')}]/`);
  const [head = '', tail] = hostname.slice(1, -1).split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = Array.from({ length: 8 - left.length - right.length }, () => '0');
  const groups = tail === undefined ? left : [...left, ...zeros, ...right];
  return `${groups.slice(0, 4).join(':')}::/64`;
}
