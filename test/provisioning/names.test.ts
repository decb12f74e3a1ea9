import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { maxIdentifierBytes, quoteIdentifier } from '../../src/postgres/identifiers.ts';
import {
  isReservedSlug,
  opaqueDatabaseName,
  slugDatabaseName,
  slugFromName,
  slugMaxLength,
  slugPattern,
  readMarker,
  tenantMarker,
  tenantMarkerPrefix,
  tenantRoles,
  withRandomEnding,
} from '../../src/provisioning/names.ts';

const anyName = fc.string({ unit: 'binary', minLength: 1, maxLength: 300 });
const slugs = fc.stringMatching(/^[a-z][a-z0-9]{0,15}([-_][a-z0-9]{1,10}){0,3}$/);

function expectSlug(slug: string): void {
  expect(slug).toMatch(slugPattern);
  expect(slug.length).toBeLessThanOrEqual(slugMaxLength);
  expect(isReservedSlug(slug)).toBe(false);
}

describe('slugFromName', () => {
  test('makes a slug from any name', () => {
    fc.assert(
      fc.property(anyName, (name) => {
        expectSlug(slugFromName(name));
      }),
      { numRuns: 1000 },
    );
  });

  test.each([
    ['Acme Corp', 'acme-corp'],
    ['acme_corp', 'acme-corp'],
    ['  Müller & Söhne GmbH  ', 'muller-sohne-gmbh'],
    ['Ærø', 'r'],
    ['ﬁne', 'fine'],
    ['42 Answers', 'answers'],
    ['A--B__C', 'a-b-c'],
    ['x'.repeat(100), 'x'.repeat(48)],
    [`${'x'.repeat(47)} y`, 'x'.repeat(47)],
  ])('%s: %s', (name, slug) => {
    expect(slugFromName(name)).toBe(slug);
  });

  test.each([
    ['日本', /^tenant-[a-z0-9]{6}$/],
    ['4711', /^tenant-[a-z0-9]{6}$/],
    ['---', /^tenant-[a-z0-9]{6}$/],
    ['Batch', /^batch-[a-z0-9]{6}$/],
    ['STATUS', /^status-[a-z0-9]{6}$/],
  ])('%s: with a random ending', (name, pattern) => {
    expect(slugFromName(name)).toMatch(pattern);
  });
});

describe('withRandomEnding', () => {
  test('keeps a slug a slug, and as much of it as there is room for', () => {
    fc.assert(
      fc.property(slugs, (slug) => {
        const ended = withRandomEnding(slug);
        expectSlug(ended);
        expect(slug.startsWith(ended.slice(0, -7))).toBe(true);
      }),
      { examples: [['a'.repeat(48)], [`${'a'.repeat(40)}-bcdefg`], ['a'.repeat(41)]] },
    );
  });

  test('is another one each time', () => {
    const ended = Array.from({ length: 50 }, () => withRandomEnding('acme'));
    expect(new Set(ended).size).toBe(50);
  });
});

describe('names on the server', () => {
  test('fit, whatever the slug and the ids', () => {
    fc.assert(
      fc.property(slugs, fc.uuid(), fc.uuid(), (slug, tenantId, loginId) => {
        const { owner, login } = tenantRoles(tenantId, loginId);
        const names = [slugDatabaseName(slug), opaqueDatabaseName(tenantId), owner, login];
        expect(new Set(names).size).toBe(4);
        for (const name of names) {
          expect(Buffer.byteLength(name)).toBeLessThanOrEqual(maxIdentifierBytes);
          expect(quoteIdentifier(name)).toBe(`"${name}"`);
        }
      }),
      { examples: [['a'.repeat(48), crypto.randomUUID(), crypto.randomUUID()]] },
    );
  });

  test('of opaque ones tell nothing of the tenant; a marker belongs to one tenant alone', () => {
    fc.assert(
      fc.property(fc.uuid(), fc.uuid(), fc.uuid(), (mine, theirs, operation) => {
        fc.pre(mine !== theirs);
        const marker = tenantMarker(mine, operation, theirs);
        expect(marker).toBe(`tenantry:1:tenant:${mine}:${operation}:${theirs}`);
        expect(readMarker(marker)).toEqual({
          kind: 'tenant',
          id: mine,
          operationId: operation,
          installation: theirs,
        });
        expect(marker.startsWith(tenantMarkerPrefix(mine))).toBe(true);
        expect(marker.startsWith(tenantMarkerPrefix(theirs))).toBe(false);
      }),
    );
  });
});
