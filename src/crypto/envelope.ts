import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createSecretKey,
  randomBytes,
  type KeyObject,
} from 'node:crypto';

/**
 * - `UNKNOWN_KEY`: sealed under a key that is not in the ring.
 * - `CORRUPT`: does not open: damaged, or sealed for another tenant or purpose. AES-GCM cannot tell
 *   these apart.
 * - `INVALID_KEY`: the text given as a key is none.
 */
export type EnvelopeErrorCode = 'UNKNOWN_KEY' | 'CORRUPT' | 'INVALID_KEY';

/** Why something did not open. Its message never holds a key, a plaintext or a sealed value. */
export class EnvelopeError extends Error {
  override readonly name = 'EnvelopeError';
  readonly code: EnvelopeErrorCode;

  constructor(code: EnvelopeErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** Seals and opens small secrets (connection strings). Holds its keys where no log reaches them. */
export interface KeyRing {
  /** Names the key that seals: 8 hex characters. Safe to log; says nothing about the key. */
  readonly currentKeyId: string;
  /**
   * AES-256-GCM under the current key: `v1.<key id>.<base64url(nonce ‖ ciphertext ‖ tag)>`.
   * `purpose` and `tenantId` are bound to it: it opens with the same two only.
   * @throws TypeError when a text has lone surrogates: UTF-8 would change it silently.
   */
  seal(plaintext: string, purpose: string, tenantId: string): string;
  /**
   * The plaintext of what `seal` made, under any key of the ring, or of a value of the older system:
   * bare `base64url(nonce ‖ ciphertext ‖ tag)`, bound to nothing, under whichever key opens it.
   * @throws EnvelopeError `UNKNOWN_KEY` or `CORRUPT`
   */
  open(sealed: string, purpose: string, tenantId: string): string;
  /** Whether it is sealed under the current key; false asks for sealing anew. Does not open it. */
  isCurrent(sealed: string): boolean;
}

/**
 * A ring that seals with `current` and opens with `current` and `previous`. A key is 32 bytes, or
 * their text as `parseEncryptionKey` takes it.
 *
 * Nonces are random, so a key should seal no more than 2³² values (NIST SP 800-38D, 8.3).
 * @throws EnvelopeError `INVALID_KEY`
 * @example
 * const ring = createKeyRing({ current: generateEncryptionKey(), previous: [] });
 * ring.open(ring.seal('postgres://…', 'connection-string', tenant.id), 'connection-string', tenant.id);
 */
export function createKeyRing(keys: {
  readonly current: Buffer | string;
  readonly previous?: readonly (Buffer | string)[];
}): KeyRing {
  const current = toNamedKey(keys.current);
  const ring = new Map(
    [current, ...(keys.previous ?? []).map(toNamedKey)].map(({ id, key }) => [id, key]),
  );
  const currentPrefix = `${versionPrefix}${current.id}.`;

  return {
    currentKeyId: current.id,
    isCurrent: (sealed) => sealed.startsWith(currentPrefix),
    seal(plaintext, purpose, tenantId) {
      const bytes = encrypt(current.key, encodeText(plaintext), associate(purpose, tenantId));
      return currentPrefix + bytes.toString('base64url');
    },
    open(sealed, purpose, tenantId) {
      if (!sealed.startsWith(versionPrefix)) return openBare(ring.values(), sealed);
      const [id = '', encoded = '', ...rest] = sealed.slice(versionPrefix.length).split('.');
      if (rest.length > 0) throw corrupt();
      const key = ring.get(id);
      if (key === undefined) {
        throw new EnvelopeError('UNKNOWN_KEY', 'Sealed under a key that is not in the key ring');
      }
      return decodeText(decrypt(key, decodeBase64url(encoded), associate(purpose, tenantId)));
    },
  };
}

/** A new key for `ENCRYPTION_KEY`: 32 random bytes in base64url without padding. */
export function generateEncryptionKey(): string {
  return randomBytes(keyLength).toString('base64url');
}

/**
 * The 32 bytes of a key in base64url or base64, padded or not; space around it is ignored.
 * @throws EnvelopeError `INVALID_KEY`, naming the rule and not the value
 */
export function parseEncryptionKey(text: string): Buffer {
  const trimmed = text.trim();
  // 32 bytes are 43 characters and one of padding. Node's decoder reads both alphabets, but skips
  // what it does not know: without the test a key with a typo would be another, shorter key.
  if (!/^[A-Za-z0-9_\-+/]{43}=?$/.test(trimmed)) {
    throw new EnvelopeError(
      'INVALID_KEY',
      'An encryption key is exactly 32 bytes in base64url: 43 characters, and optionally one =',
    );
  }
  return Buffer.from(trimmed, 'base64url');
}

/**
 * Opens `nonce (12 bytes) ‖ ciphertext ‖ tag (16 bytes)`. The layer under `open`, apart so that it
 * can be held against published test vectors. `key` holds 32 bytes.
 * @throws EnvelopeError `CORRUPT`
 */
export function decrypt(key: KeyObject, sealed: Buffer, associated: Buffer): Buffer {
  if (sealed.length < nonceLength + tagLength) throw corrupt();
  const nonce = sealed.subarray(0, nonceLength);
  // Without authTagLength Node takes tags down to 4 bytes, which can be guessed.
  const decipher = createDecipheriv(algorithm, key, nonce, { authTagLength: tagLength });
  decipher.setAAD(associated);
  decipher.setAuthTag(sealed.subarray(-tagLength));
  const plaintext = decipher.update(sealed.subarray(nonceLength, -tagLength));
  try {
    return Buffer.concat([plaintext, decipher.final()]);
  } catch {
    throw corrupt();
  }
}

const algorithm = 'aes-256-gcm';
const keyLength = 32;
const nonceLength = 12;
const tagLength = 16;
const versionPrefix = 'v1.';

/** Keeps a key's name from being the plain digest of the key, should that be used elsewhere. */
const keyIdLabel = 'tenantry encryption key id';

function toNamedKey(source: Buffer | string): { id: string; key: KeyObject } {
  const bytes = typeof source === 'string' ? parseEncryptionKey(source) : source;
  if (bytes.length !== keyLength) {
    throw new EnvelopeError('INVALID_KEY', 'An encryption key is exactly 32 bytes');
  }
  const id = createHash('sha256').update(keyIdLabel).update(bytes).digest('hex').slice(0, 8);
  // A KeyObject prints as nothing but its type, wherever it ends up.
  return { id, key: createSecretKey(bytes) };
}

/** AES-256-GCM: `nonce ‖ ciphertext ‖ tag`, the nonce fresh for every value. */
function encrypt(key: KeyObject, plaintext: Buffer, associated: Buffer): Buffer {
  const nonce = randomBytes(nonceLength);
  const cipher = createCipheriv(algorithm, key, nonce, { authTagLength: tagLength });
  cipher.setAAD(associated);
  return Buffer.concat([nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

/**
 * The associated data: a JSON array of the two, in UTF-8. JSON quotes and escapes, so no two pairs
 * share an encoding, as `a` + `bc` and `ab` + `c` would; and it is never empty, so that a sealed
 * value does not pass for a bare one when its prefix is cut off.
 */
function associate(purpose: string, tenantId: string): Buffer {
  return Buffer.from(JSON.stringify([purpose, tenantId]), 'utf8');
}

/** The older system named no key: each of the ring is tried. */
function openBare(keys: Iterable<KeyObject>, sealed: string): string {
  const bytes = decodeBase64url(sealed.replace(/=+$/, ''));
  for (const key of keys) {
    try {
      return decodeText(decrypt(key, bytes, Buffer.alloc(0)));
    } catch (error) {
      if (!(error instanceof EnvelopeError)) throw error;
    }
  }
  throw corrupt();
}

/** Strict: Node's decoder skips characters it does not know and ignores spare bits at the end. */
function decodeBase64url(text: string): Buffer {
  const bytes = Buffer.from(text, 'base64url');
  if (bytes.toString('base64url') !== text) throw corrupt();
  return bytes;
}

function encodeText(text: string): Buffer {
  if (!text.isWellFormed()) throw new TypeError('Text with lone surrogates cannot be sealed');
  return Buffer.from(text, 'utf8');
}

function decodeText(bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw corrupt();
  }
}

function corrupt(): EnvelopeError {
  return new EnvelopeError('CORRUPT', 'Damaged, or sealed for another tenant or purpose');
}
