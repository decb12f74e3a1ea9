import fc from 'fast-check';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { identifierFromId, quoteIdentifier, quoteLiteral } from '../../src/postgres/identifiers.ts';
import { openAdmin } from './admin.ts';

let client: pg.Client;

beforeAll(async () => {
  client = await openAdmin();
});
afterAll(() => client.end());

const wellFormed = fc
  .string({ unit: 'binary', maxLength: 63 })
  .filter((text) => text.isWellFormed() && !text.includes('\0'));
const names = wellFormed.filter((name) => name !== '' && Buffer.byteLength(name) <= 63);
const nasty = [
  '"',
  '""',
  "'",
  '\\',
  'a"; DROP TABLE x; --',
  'SELECT',
  'é',
  '日本',
  '😀',
  ' ',
  '$1',
  '\n',
];

describe('quoteIdentifier', () => {
  test('brings any name through the server as it is', async () => {
    await fc.assert(
      fc.asyncProperty(names, async (name) => {
        const { fields } = await client.query(`SELECT 1 AS ${quoteIdentifier(name)}`);
        expect(fields.map((field) => field.name)).toEqual([name]);
      }),
      { numRuns: 300, examples: nasty.map((name) => [name] as [string]) },
    );
  });

  test('names one column of a table that is made with it', async () => {
    await fc.assert(
      fc.asyncProperty(names, async (name) => {
        const quoted = quoteIdentifier(name);
        await client.query(`CREATE TEMPORARY TABLE probe (${quoted} int); DROP TABLE probe`);
      }),
      { numRuns: 50, examples: nasty.map((name) => [name] as [string]) },
    );
  });

  test('refuses what PostgreSQL would cut, by bytes', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 1, maxLength: 100 }), (name) => {
        const fits = !name.includes('\0') && Buffer.byteLength(name) <= 63;
        if (fits) expect(quoteIdentifier(name)).toMatch(/^"[^]*"$/);
        else expect(() => quoteIdentifier(name)).toThrow(RangeError);
      }),
    );
  });

  test.each([
    ['nothing', ''],
    ['64 bytes', 'a'.repeat(64)],
    ['64 bytes in 32 characters', 'é'.repeat(32)],
    ['a NUL', 'a\0b'],
  ])('refuses %s', (_what, name) => {
    expect(() => quoteIdentifier(name)).toThrow(RangeError);
  });

  test('takes 63 bytes to the last', async () => {
    const name = `${'é'.repeat(31)}x`;
    const { fields } = await client.query(`SELECT 1 AS ${quoteIdentifier(name)}`);
    expect(fields[0]?.name).toBe(name);
  });
});

describe('quoteLiteral', () => {
  test('brings any text through the server as it is', async () => {
    await fc.assert(
      fc.asyncProperty(wellFormed, async (text) => {
        const { rows } = await client.query<{ text: string }>(
          `SELECT ${quoteLiteral(text)}::text AS text`,
        );
        expect(rows).toEqual([{ text }]);
      }),
      { numRuns: 300, examples: nasty.map((name) => [name] as [string]) },
    );
  });
});

test('identifierFromId makes a name that needs no quotes', () => {
  fc.assert(
    fc.property(fc.uuid(), (id) => {
      expect(identifierFromId('car_', id)).toMatch(
        /^car_[0-9a-f]{8}(_[0-9a-f]{4}){3}_[0-9a-f]{12}$/,
      );
    }),
  );
});
