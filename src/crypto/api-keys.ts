import { createHash, randomInt, timingSafeEqual } from 'node:crypto';
import { crc32 } from 'node:zlib';

/** A tenant's new API key: `<prefix><name part>_<random characters><checksum>`. */
export interface GeneratedApiKey {
  /** The whole key. Shown once, never stored. */
  readonly key: string;
  /** What may be shown later to recognise it: everything up to the first 4 random characters. */
  readonly display: string;
  /** The first 12 random characters: how it is found. 71 bits, so practically unique. */
  readonly lookup: string;
  /** SHA-256 of the whole key, 32 bytes: how it is proved. Random enough to need no salt. */
  readonly hash: Buffer;
}

/** What is needed to find a presented key, and to prove it. */
export type ParsedApiKey = Pick<GeneratedApiKey, 'lookup' | 'hash'>;

/**
 * A new API key. The readable part comes from the tenant's name: its first 8 characters in lower
 * case, all but a-z0-9 as `_`; `tenant` when it has none of these. Not unique, and not secret.
 * @param options.prefix what every key begins with, printable ASCII (`API_KEY_PREFIX`)
 * @param options.length random characters, each 5.95 bits, at least 32 (`API_KEY_LENGTH`)
 * @throws RangeError when `length` is below 32 or no integer
 * @example
 * generateApiKey({ prefix: 'tk_', length: 32, tenantName: 'Demo Company' }).key; // tk_demo_com_…
 */
export function generateApiKey(options: {
  readonly prefix?: string;
  readonly length?: number;
  readonly tenantName: string;
}): GeneratedApiKey {
  const { prefix = 'tk_', length = minimumLength, tenantName } = options;
  if (!Number.isInteger(length) || length < minimumLength) {
    throw new RangeError(`An API key has at least ${minimumLength} random characters`);
  }
  const readable = `${prefix}${namePart(tenantName)}_`;
  const random = randomCharacters(length);
  const unchecked = readable + random;
  const key = unchecked + checksum(unchecked);
  return {
    key,
    display: readable + random.slice(0, 4),
    lookup: random.slice(0, lookupLength),
    hash: hashKey(key),
  };
}

/**
 * Takes a presented key apart. Null when it is malformed or its checksum is wrong, so that a typo is
 * refused without asking the database. That it parses proves nothing: anybody can make a checksum.
 */
export function parseApiKey(text: string, prefix = 'tk_'): ParsedApiKey | null {
  if (!text.startsWith(prefix)) return null;
  // From the end, because the name part may hold underscores; the random part never does.
  const match = keyForm.exec(text.slice(prefix.length));
  if (match === null) return null;
  const [, random = ''] = match;
  const unchecked = text.slice(0, -checksumLength);
  if (checksum(unchecked) !== text.slice(-checksumLength)) return null;
  return { lookup: random.slice(0, lookupLength), hash: hashKey(text) };
}

/** Whether two hashes are equal, in a time that does not tell where they differ. */
export function sameHash(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

const minimumLength = 32;
const lookupLength = 12;
const checksumLength = 6;
const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const keyForm = /^[a-z0-9_]{1,8}_([0-9A-Za-z]{32,})[0-9A-Za-z]{6}$/;

function namePart(tenantName: string): string {
  // By code points, so that an emoji is one character and never half of one.
  const part = Array.from(tenantName.toLowerCase())
    .slice(0, 8)
    .map((character) => (/[a-z0-9]/.test(character) ? character : '_'))
    .join('');
  return /[a-z0-9]/.test(part) ? part : 'tenant';
}

/** `randomInt` draws again where a remainder would favour the first letters of the alphabet. */
function randomCharacters(length: number): string {
  return Array.from({ length }, () => alphabet.charAt(randomInt(alphabet.length))).join('');
}

/**
 * CRC-32 of all that comes before it, in base 62, padded to 6 characters, as in GitHub's tokens. It
 * finds every change of a single character. Not a secret: it is no proof of anything.
 * @see https://github.blog/engineering/platform-security/behind-githubs-new-authentication-token-formats/
 */
function checksum(text: string): string {
  let rest = crc32(text);
  let digits = '';
  for (let place = 0; place < checksumLength; place += 1) {
    digits = alphabet.charAt(rest % alphabet.length) + digits;
    rest = Math.floor(rest / alphabet.length);
  }
  return digits;
}

function hashKey(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}
