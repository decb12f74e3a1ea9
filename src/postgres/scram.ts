import { createHash, createHmac, pbkdf2, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';

/**
 * A new password: 192 random bits as 32 characters of base64url, which stand in a URL as they are.
 */
export function generatePassword(): string {
  return randomBytes(24).toString('base64url');
}

/**
 * What PostgreSQL stores for a password: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, as
 * `CREATE ROLE … PASSWORD` takes it in place of the password. Computed here, because the server
 * writes a failing statement to its log, password and all.
 *
 * Holds no `'` and no `\`. Takes some milliseconds, off the main thread.
 * @param password printable ASCII (what `generatePassword` makes); only then is SASLprep the identity
 * @param iterations few are enough where the password is random and no client but our own uses it
 * @throws TypeError when the password is not printable ASCII
 * @see https://www.rfc-editor.org/rfc/rfc5802#section-3 and RFC 7677
 */
export async function scramVerifier(
  password: string,
  iterations = defaultIterations,
): Promise<string> {
  const salt = randomBytes(16);
  const { storedKey, serverKey } = await scramKeys(password, salt, iterations);
  const encoded = `${storedKey.toString('base64')}:${serverKey.toString('base64')}`;
  return `SCRAM-SHA-256$${iterations}:${salt.toString('base64')}$${encoded}`;
}

/**
 * The two keys of a verifier, 32 bytes each, over a given salt. Apart from
 * `scramVerifier` so that it can be held against the example in RFC 7677.
 * @throws TypeError when the password is not printable ASCII
 */
export async function scramKeys(
  password: string,
  salt: Buffer,
  iterations = defaultIterations,
): Promise<{ storedKey: Buffer; serverKey: Buffer }> {
  if (!/^[\x20-\x7e]+$/.test(password)) {
    throw new TypeError('A password is made of printable ASCII characters');
  }
  const salted = await deriveKey(password, salt, iterations, 32, 'sha256');
  const clientKey = createHmac('sha256', salted).update('Client Key').digest();
  const serverKey = createHmac('sha256', salted).update('Server Key').digest();
  return { storedKey: createHash('sha256').update(clientKey).digest(), serverKey };
}

const deriveKey = promisify(pbkdf2);

/** PostgreSQL's own default (`scram_iterations`); the passwords are random, more would buy nothing. */
const defaultIterations = 4096;
