/** The sealed form is what the documentation says: somebody else's implementation reads and writes it. */
import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { createKeyRing, generateEncryptionKey } from '../../src/crypto/envelope.ts';

const program = `
import base64, json, os, sys
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
decode = lambda text: base64.urlsafe_b64decode(text + '=' * (-len(text) % 4))
encode = lambda data: base64.urlsafe_b64encode(data).rstrip(b'=').decode()
request = json.loads(sys.stdin.buffer.read())
cipher = AESGCM(decode(request['key']))
associated = bytes.fromhex(request['associated'])
if 'sealed' in request:
    sealed = decode(request['sealed'])
    answer = cipher.decrypt(sealed[:12], sealed[12:], associated or None).decode()
else:
    nonce = os.urandom(12)
    answer = encode(nonce + cipher.encrypt(nonce, request['plaintext'].encode(), associated or None))
sys.stdout.buffer.write(json.dumps(answer).encode())
`;

const there = spawnSync('python3', ['-c', 'import cryptography']).status === 0;
if (!there)
  console.warn("SKIPPED: python3 with 'cryptography' (python3-cryptography) is not there");

function python(request: object): string {
  const { status, stdout, stderr } = spawnSync('python3', ['-c', program], {
    input: JSON.stringify(request),
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as string;
}

const key = generateEncryptionKey();
const ring = createKeyRing({ current: key });
const tenant = '550e8400-e29b-41d4-a716-446655440000';
const associated = Buffer.from(`["connection-string","${tenant}"]`).toString('hex');

describe.skipIf(!there)("AES-256-GCM of Python's cryptography", () => {
  test.each(['', 'postgres://u:p@h:5432/d?sslmode=verify-full', 'Zoë 🐘\n\0', 'x'.repeat(5000)])(
    'opens what is sealed here, and is opened here: %#',
    (plaintext) => {
      const [version, keyId, sealed] = ring.seal(plaintext, 'connection-string', tenant).split('.');
      expect([version, keyId]).toEqual(['v1', ring.currentKeyId]);
      expect(python({ key, associated, sealed })).toBe(plaintext);
      const theirs = python({ key, associated, plaintext });
      const whole = `v1.${ring.currentKeyId}.${theirs}`;
      expect(ring.open(whole, 'connection-string', tenant)).toBe(plaintext);
      expect(() => ring.open(whole, 'connection-string', tenant.replace('5', '6'))).toThrow();
    },
  );

  test('the older form is bound to nothing', () => {
    const bare = python({ key, associated: '', plaintext: 'postgres://older' });
    expect(ring.open(bare, 'connection-string', tenant)).toBe('postgres://older');
  });
});
