import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { generateApiKey, parseApiKey, sameHash } from '../../src/crypto/api-keys.ts';

const tenantName = fc.string({ unit: 'binary', minLength: 1, maxLength: 40 });
const made = fc
  .record({ tenantName, length: fc.integer({ min: 32, max: 48 }) })
  .map((options) => generateApiKey({ prefix: 'tk_', ...options }));

describe('generateApiKey', () => {
  it('has the form prefix, name part, random characters and checksum', () => {
    fc.assert(
      fc.property(tenantName, fc.integer({ min: 32, max: 64 }), (name, length) => {
        const { key, display, lookup, hash } = generateApiKey({
          prefix: 'tk_',
          length,
          tenantName: name,
        });
        expect(key).toMatch(new RegExp(`^tk_[a-z0-9_]{1,8}_[0-9A-Za-z]{${length + 6}}$`));
        const random = key.slice(key.lastIndexOf('_') + 1);
        expect(lookup).toBe(random.slice(0, 12));
        expect(display).toBe(key.slice(0, key.lastIndexOf('_') + 5));
        expect(hash).toEqual(createHash('sha256').update(key).digest());
      }),
    );
  });

  it.each([
    ['demo_company', 'demo_com'],
    ['Demo Company', 'demo_com'],
    ['Acme', 'acme'],
    ['A', 'a'],
    ['7', '7'],
    ['_', 'tenant'],
    ['株式会社', 'tenant'],
    ['🦊🦊', 'tenant'],
    ['🦊 fox 👩‍👩‍👧', '__fox___'],
    ['Ünïcode', '_n_code'],
    ['--------late', 'tenant'],
    ['', 'tenant'],
  ])('makes of the tenant name %j the name part %j', (name, part) => {
    const { key } = generateApiKey({ tenantName: name });
    expect(key.slice(0, key.lastIndexOf('_'))).toBe(`tk_${part}`);
    expect(parseApiKey(key)).not.toBeNull();
  });

  it('draws every character about equally often', () => {
    const counts = new Map<string, number>();
    for (let turn = 0; turn < 1000; turn += 1) {
      const { key } = generateApiKey({ tenantName: 'a', length: 62 });
      for (const character of key.slice(5, -6)) {
        counts.set(character, (counts.get(character) ?? 0) + 1);
      }
    }
    // 1000 each are expected, with a standard deviation of 31; a bias of `% 62` would make 1240.
    expect(counts.size).toBe(62);
    expect(Math.min(...counts.values())).toBeGreaterThan(800);
    expect(Math.max(...counts.values())).toBeLessThan(1200);
  });

  it.each([31, 0, -1, 32.5, NaN])('refuses a length of %d', (length) => {
    expect(() => generateApiKey({ tenantName: 'a', length })).toThrow(RangeError);
  });
});

describe('parseApiKey', () => {
  it('finds what generateApiKey made', () => {
    fc.assert(
      fc.property(made, ({ key, lookup, hash }) => {
        expect(parseApiKey(key, 'tk_')).toEqual({ lookup, hash });
      }),
    );
  });

  it('notices every change of one character', () => {
    fc.assert(
      fc.property(
        made,
        fc.nat(),
        fc.oneof(
          fc.constantFrom('0', '9', 'A', 'Z', 'a', 'z', '_'),
          fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }),
        ),
        ({ key }, place, other) => {
          const at = place % key.length;
          fc.pre(key[at] !== other);
          expect(parseApiKey(key.slice(0, at) + other + key.slice(at + 1))).toBeNull();
        },
      ),
      { numRuns: 20_000 },
    );
  });

  it('notices swapped neighbours', () => {
    fc.assert(
      fc.property(made, fc.nat(), ({ key }, place) => {
        const at = place % (key.length - 1);
        fc.pre(key[at] !== key[at + 1]);
        const swapped = key.slice(0, at) + key[at + 1]! + key[at]! + key.slice(at + 2);
        expect(parseApiKey(swapped)).toBeNull();
      }),
      { numRuns: 5000 },
    );
  });

  it('takes keys of its prefix only', () => {
    const { key } = generateApiKey({ prefix: 'live-', tenantName: 'Acme' });
    expect(parseApiKey(key, 'live-')).not.toBeNull();
    expect(parseApiKey(key, 'tk_')).toBeNull();
  });

  it.each(['', 'tk_', 'tk_a_', 'tk__', 'eyJhbGciOiJIUzI1NiJ9.e30.x', 'postgres://a:b@c/d'])(
    'refuses %j',
    (text) => {
      expect(parseApiKey(text)).toBeNull();
    },
  );

  it('refuses what surrounds a key', () => {
    const { key } = generateApiKey({ tenantName: 'Acme' });
    for (const text of [` ${key}`, `${key} `, `${key}\n`, key.slice(0, -1), `${key}0`]) {
      expect(parseApiKey(text)).toBeNull();
    }
  });
});

describe('sameHash', () => {
  it('compares contents', () => {
    const hash = createHash('sha256').update('a').digest();
    expect(sameHash(hash, Buffer.from(hash))).toBe(true);
    expect(sameHash(hash, createHash('sha256').update('b').digest())).toBe(false);
    expect(sameHash(hash, hash.subarray(1))).toBe(false);
  });
});
