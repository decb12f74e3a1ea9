import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Standby } from '../../src/control/standbys.ts';
import { isUrgent, nextChore } from '../../src/provisioning/standbys.ts';

const current = Buffer.alloc(32, 1);
const older = Buffer.alloc(32, 2);
const counts = { DATABASE: 2, SCHEMA: 0 };
const isKnown = (version: string | null): boolean => version !== 'newer';

function standby(given: Partial<Standby> = {}): Standby {
  return {
    id: 'a',
    operationId: 'o',
    cluster: 'default',
    isolation: 'DATABASE',
    databaseName: 'd',
    schemaName: null,
    ownerRole: 'own',
    loginRole: 'usr',
    secretsEncrypted: 's',
    recipeHash: current,
    migrationVersion: '001',
    status: 'READY',
    ...given,
  };
}

describe('the next thing to do for the pools of a cluster', () => {
  test.each<[string, Standby[], object | null]>([
    ['an empty pool is filled', [], { kind: 'build', isolation: 'DATABASE' }],
    ['a pool that lacks one too', [standby()], { kind: 'build', isolation: 'DATABASE' }],
    ['a full one is left alone', [standby(), standby()], null],
    [
      'the newest of too many goes',
      [standby({ id: '1' }), standby({ id: '2' }), standby({ id: '3' })],
      { kind: 'drop', standby: { id: '3' } },
    ],
    [
      'what is half made goes first',
      [standby(), standby({ id: 'half', status: 'BUILDING' }), standby()],
      { kind: 'drop', standby: { id: 'half' } },
    ],
    [
      'what was being dropped too',
      [standby({ id: 'half', status: 'DROPPING' })],
      { kind: 'drop', standby: { id: 'half' } },
    ],
    [
      'one of older migrations is brought forward',
      [standby(), standby({ id: 'old', recipeHash: older })],
      { kind: 'refresh', standby: { id: 'old' } },
    ],
    [
      'one that a newer instance made is left to it',
      [standby(), standby({ recipeHash: older, migrationVersion: 'newer' })],
      null,
    ],
  ])('%s', (_name, standbys, chore) => {
    const found = nextChore(standbys, counts, current, isKnown);
    if (chore === null) expect(found).toBeNull();
    else expect(found).toMatchObject(chore);
  });

  test('done one after the other, they end with full pools of the present recipe', () => {
    const some = fc.array(
      fc.record({
        status: fc.constantFrom('BUILDING', 'READY', 'REFRESHING', 'DROPPING'),
        recipeHash: fc.constantFrom(current, older),
      }),
      { maxLength: 8 },
    );
    fc.assert(
      fc.property(some, fc.nat({ max: 5 }), (given, wanted) => {
        let pool = given.map((each, index) => standby({ ...each, id: String(index) }));
        for (let turns = 0; ; turns += 1) {
          expect(turns).toBeLessThan(50);
          const chore = nextChore(pool, { DATABASE: wanted, SCHEMA: 0 }, current, isKnown);
          if (chore === null) break;
          if (chore.kind === 'build') pool = [...pool, standby({ id: `new ${turns}` })];
          else {
            pool = pool.filter(({ id }) => id !== chore.standby.id);
            if (chore.kind === 'refresh') pool.push({ ...chore.standby, recipeHash: current });
          }
        }
        expect(pool).toHaveLength(wanted);
        expect(pool.every(({ status }) => status === 'READY')).toBe(true);
        expect(pool.every(({ recipeHash }) => recipeHash.equals(current))).toBe(true);
      }),
    );
  });
});

test.each([
  ['none of one', 0, 1, true],
  ['one of two', 1, 2, false],
  ['one of four', 1, 4, true],
  ['two of four', 2, 4, false],
  ['two of fifty', 2, 50, false],
])(
  'a pool with %s ready: another one comes before a batch or not',
  (_name, ready, size, urgent) => {
    const pool = Array.from({ length: ready }, (_, index) => standby({ id: String(index) }));
    const others = [standby({ isolation: 'SCHEMA' }), standby({ status: 'BUILDING' })];
    const chore = { kind: 'build', isolation: 'DATABASE' } as const;
    expect(isUrgent(chore, [...pool, ...others], { DATABASE: size, SCHEMA: 0 })).toBe(urgent);
    const drop = { kind: 'drop', standby: standby() } as const;
    expect(isUrgent(drop, [], { DATABASE: size, SCHEMA: 0 })).toBe(false);
  },
);
