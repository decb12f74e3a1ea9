import { createCipheriv, randomBytes } from 'node:crypto';

/** What the older system stored: `base64url(nonce ‖ ciphertext ‖ tag)`, bound to nothing. */
export function sealBare(key: Buffer, plaintext: string): string {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: 16 });
  return Buffer.concat([
    nonce,
    cipher.update(plaintext, 'utf8'),
    cipher.final(),
    cipher.getAuthTag(),
  ]).toString('base64url');
}
