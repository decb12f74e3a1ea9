import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  isReservedSlug,
  slugFromName,
  slugMaxLength,
  slugPattern,
  withRandomEnding,
} from '../../src/provisioning/names.ts';

const isSlug = (text: string): boolean =>
  slugPattern.test(text) && text.length <= slugMaxLength && !isReservedSlug(text);

describe('Tenant.slug, derived from the name', () => {
  test.for([
    ['Acme Corp', 'acme-corp'],
    ['acme_corp', 'acme-corp'],
    ['  Café  Zürich!  ', 'cafe-zurich'],
    ['Ærøskøbing', 'r-sk-bing'],
    ['ﬁne ①②', 'fine-12'],
    ['3M', 'm'],
    ['2026 Rockets 4U', 'rockets-4u'],
    ['𝒜𝒸𝓂ℯ', 'acme'],
    ['x'.repeat(60), 'x'.repeat(48)],
    [`${'x'.repeat(47)} y`, 'x'.repeat(47)],
  ] as const)('%s is %s', ([name, slug]) => {
    expect(slugFromName(name)).toBe(slug);
  });

  test.for(['', '---', '123', '株式会社', '🐘', 'شركة', '\u0301'])(
    'nothing is left of %j: tenant and a random ending',
    (name) => {
      expect(slugFromName(name)).toMatch(/^tenant-[a-z0-9]{6}$/);
    },
  );

  test.for(['Batch', 'health', 'STATUS', 'operations!'])('%s is reserved', (name) => {
    expect(slugFromName(name)).toMatch(/^[a-z]+-[a-z0-9]{6}$/);
  });

  test('whatever the name, it is a slug', () => {
    const names = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 300 }),
      fc.string({ unit: 'grapheme', maxLength: 300 }),
      fc.string({ unit: fc.constantFrom('a', 'Z', '0', '-', '_', ' ', 'é', '🐘'), maxLength: 80 }),
      fc.uuid(),
    );
    fc.assert(
      fc.property(names, (name) => {
        expect(isSlug(slugFromName(name))).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  test('with a random ending it is one still, and another one', () => {
    const slugs = fc.string({ unit: 'binary', maxLength: 80 }).map(slugFromName);
    fc.assert(
      fc.property(slugs, (slug) => {
        const ended = withRandomEnding(slug);
        expect(isSlug(ended)).toBe(true);
        expect(ended).not.toBe(slug);
      }),
      { numRuns: 500 },
    );
  });
});
