import { createHash, randomBytes } from 'node:crypto';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  createKeyRing,
  EnvelopeError,
  generateEncryptionKey,
  parseEncryptionKey,
} from '../../src/crypto/envelope.ts';
import { sealBare } from './bare.ts';

const text = fc.string({ unit: 'binary' });
const key = generateEncryptionKey();
const ring = createKeyRing({ current: key });

const codeOf = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    if (error instanceof EnvelopeError) return error.code;
    throw error;
  }
  return 'opened';
};

/** The parts of a sealed value, its bytes decoded. */
const take = (sealed: string): { head: string; bytes: Buffer } => {
  const at = sealed.lastIndexOf('.') + 1;
  return { head: sealed.slice(0, at), bytes: Buffer.from(sealed.slice(at), 'base64url') };
};

describe('seal and open', () => {
  it('give back any text, for any purpose and tenant', () => {
    fc.assert(
      fc.property(text, text, text, (plaintext, purpose, tenant) => {
        expect(ring.open(ring.seal(plaintext, purpose, tenant), purpose, tenant)).toBe(plaintext);
      }),
    );
  });

  it('keep a byte order mark', () => {
    expect(ring.open(ring.seal('\uFEFFa', 'p', 't'), 'p', 't')).toBe('\uFEFFa');
  });

  it('refuse lone surrogates, which UTF-8 would replace', () => {
    expect(() => ring.seal('a\uD800', 'p', 't')).toThrow(TypeError);
  });

  it('have the form v1.<key id>.<nonce, ciphertext, tag>', () => {
    const sealed = ring.seal('secret', 'p', 't');
    expect(sealed).toMatch(/^v1\.[0-9a-f]{8}\.[A-Za-z0-9_-]+$/);
    expect(sealed.split('.')[1]).toBe(ring.currentKeyId);
    expect(take(sealed).bytes).toHaveLength(12 + 'secret'.length + 16);
  });

  it('never use a nonce twice', () => {
    const nonces = Array.from({ length: 10_000 }, () =>
      take(ring.seal('', 'p', 't')).bytes.toString('hex', 0, 12),
    );
    expect(new Set(nonces).size).toBe(10_000);
  });
});

describe('a sealed value does not open', () => {
  it('for another tenant or purpose, wherever the boundary between them is', () => {
    fc.assert(
      fc.property(text, text, text, text, (purpose, tenant, otherPurpose, otherTenant) => {
        fc.pre(purpose !== otherPurpose || tenant !== otherTenant);
        const sealed = ring.seal('secret', purpose, tenant);
        expect(codeOf(() => ring.open(sealed, otherPurpose, otherTenant))).toBe('CORRUPT');
      }),
    );
    for (const [purpose, tenant] of [
      ['a', 'bc'],
      ['abc', ''],
      ['', 'abc'],
      ['a","b', 'c'],
    ] as const) {
      expect(codeOf(() => ring.open(ring.seal('secret', 'ab', 'c'), purpose, tenant))).toBe(
        'CORRUPT',
      );
    }
  });

  it('with any bit flipped', () => {
    const { head, bytes } = take(ring.seal('postgres://a:b@c/d', 'p', 't'));
    for (let bit = 0; bit < bytes.length * 8; bit += 1) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      expect(codeOf(() => ring.open(head + flipped.toString('base64url'), 'p', 't'))).toBe(
        'CORRUPT',
      );
    }
  });

  it('with any character changed', () => {
    const sealed = ring.seal('secret', 'p', 't');
    for (let at = 0; at < sealed.length; at += 1) {
      const other = sealed[at] === 'A' ? 'B' : 'A';
      const changed = sealed.slice(0, at) + other + sealed.slice(at + 1);
      expect(codeOf(() => ring.open(changed, 'p', 't'))).not.toBe('opened');
    }
  });

  it('cut short, at any length: a tag has 16 bytes', () => {
    const { head, bytes } = take(ring.seal('secret', 'p', 't'));
    for (let length = 0; length < bytes.length; length += 1) {
      const cut = head + bytes.toString('base64url', 0, length);
      expect(codeOf(() => ring.open(cut, 'p', 't'))).toBe('CORRUPT');
    }
  });

  it('as a bare value, its prefix cut off', () => {
    const sealed = ring.seal('secret', '', '');
    expect(codeOf(() => ring.open(take(sealed).bytes.toString('base64url'), '', ''))).toBe(
      'CORRUPT',
    );
  });

  it.each(['', 'v1', 'v1.', 'v1..', 'v2.aaaaaaaa.AAAA', 'plain text', 'postgres://a:b@c/d'])(
    'when it is %j',
    (sealed) => {
      expect(codeOf(() => ring.open(sealed, 'p', 't'))).not.toBe('opened');
    },
  );

  it('with something after it', () => {
    expect(codeOf(() => ring.open(`${ring.seal('secret', 'p', 't')}.x`, 'p', 't'))).toBe('CORRUPT');
    expect(codeOf(() => ring.open(`${ring.seal('secret', 'p', 't')}\n`, 'p', 't'))).toBe('CORRUPT');
  });
});

describe('a key ring', () => {
  it('opens what a previous key sealed, and knows that it is to be sealed anew', () => {
    const rotated = createKeyRing({
      current: generateEncryptionKey(),
      previous: [key],
    });
    const old = ring.seal('secret', 'p', 't');
    expect(rotated.open(old, 'p', 't')).toBe('secret');
    expect(rotated.isCurrent(old)).toBe(false);
    expect(rotated.isCurrent(rotated.seal('secret', 'p', 't'))).toBe(true);
  });

  it('says so when it does not hold the key', () => {
    const stranger = createKeyRing({ current: generateEncryptionKey() });
    expect(codeOf(() => stranger.open(ring.seal('secret', 'p', 't'), 'p', 't'))).toBe(
      'UNKNOWN_KEY',
    );
  });

  it('reads what the older system wrote, under any of its keys, padded or not', () => {
    const older = randomBytes(32);
    const rotated = createKeyRing({ current: key, previous: [generateEncryptionKey(), older] });
    const bare = sealBare(older, 'postgres://a:ü@c/d');
    for (const sealed of [bare, bare + '='.repeat(-bare.length & 3)]) {
      expect(rotated.open(sealed, 'any', 'any')).toBe('postgres://a:ü@c/d');
      expect(rotated.isCurrent(sealed)).toBe(false);
      expect(codeOf(() => ring.open(sealed, 'any', 'any'))).toBe('CORRUPT');
    }
  });

  it('names a key without telling anything of it', () => {
    const bytes = parseEncryptionKey(key);
    expect(createKeyRing({ current: bytes }).currentKeyId).toBe(ring.currentKeyId);
    expect(ring.currentKeyId).toMatch(/^[0-9a-f]{8}$/);
    expect(createHash('sha256').update(bytes).digest('hex')).not.toContain(ring.currentKeyId);
  });

  it('shows no key when printed', () => {
    const shown = inspect(ring, { depth: 9, showHidden: true }) + JSON.stringify(ring);
    expect(shown).not.toContain(key);
    expect(shown).not.toContain(parseEncryptionKey(key).toString('hex').slice(0, 8));
  });
});

describe('parseEncryptionKey', () => {
  it('takes base64url and base64, padded or not', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (source) => {
        const bytes = Buffer.from(source);
        const forms = [bytes.toString('base64url'), bytes.toString('base64')];
        for (const form of [...forms, `${forms[0]!}=`, forms[1]!.slice(0, -1), ` ${forms[0]!}\n`]) {
          expect(parseEncryptionKey(form)).toEqual(bytes);
        }
      }),
    );
  });

  it('takes what generateEncryptionKey makes', () => {
    expect(generateEncryptionKey()).toMatch(/^[A-Za-z0-9_-]{43}$/);
    expect(parseEncryptionKey(generateEncryptionKey())).toHaveLength(32);
  });

  it.each([
    ['nothing', ''],
    ['31 bytes', randomBytes(31).toString('base64url')],
    ['33 bytes', randomBytes(33).toString('base64url')],
    ['hexadecimal', randomBytes(32).toString('hex')],
    ['a passphrase', 'correct horse battery staple, forty-three c'],
    ['a foreign character', `${generateEncryptionKey().slice(1)}!`],
  ])('refuses %s and does not print it', (_name, value) => {
    expect(codeOf(() => parseEncryptionKey(value))).toBe('INVALID_KEY');
    expect(codeOf(() => createKeyRing({ current: key, previous: [value] }))).toBe('INVALID_KEY');
    try {
      parseEncryptionKey(value);
    } catch (error) {
      if (value !== '') expect(inspect(error)).not.toContain(value);
    }
  });

  it('refuses bytes of another length', () => {
    expect(codeOf(() => createKeyRing({ current: randomBytes(16) }))).toBe('INVALID_KEY');
  });
});
