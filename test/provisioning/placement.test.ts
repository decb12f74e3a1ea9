import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  chooseByWeight,
  createPlacement,
  type ClusterRoom,
  type Credits,
} from '../../src/provisioning/placement.ts';

const clusterNames = fc.uniqueArray(fc.stringMatching(/^[a-z]{1,6}$/), {
  minLength: 1,
  maxLength: 6,
});
const weighted = clusterNames.chain((names) =>
  fc.tuple(...names.map((name) => fc.record({ name: fc.constant(name), weight: fc.nat(9) }))),
);

function rowOf(clusters: readonly { name: string; weight: number }[], length: number): string[] {
  let credits: Credits = new Map();
  return Array.from({ length }, () => {
    const chosen = chooseByWeight(clusters, credits)!;
    credits = chosen.credits;
    return chosen.cluster.name;
  });
}

describe('chooseByWeight', () => {
  test('gives each exactly its share of every round', () => {
    fc.assert(
      fc.property(weighted, fc.integer({ min: 1, max: 3 }), (clusters, rounds) => {
        const sum = clusters.reduce((total, { weight }) => total + weight, 0);
        fc.pre(sum > 0);
        const row = rowOf(clusters, sum * rounds);
        for (const { name, weight } of clusters) {
          expect(row.filter((chosen) => chosen === name)).toHaveLength(weight * rounds);
        }
      }),
    );
  });

  test('is fair before a round is over, too: nobody is ahead by one for each cluster', () => {
    fc.assert(
      fc.property(weighted, fc.nat(60), (clusters, length) => {
        const sum = clusters.reduce((total, { weight }) => total + weight, 0);
        fc.pre(sum > 0);
        const row = rowOf(clusters, length);
        for (const { name, weight } of clusters) {
          const got = row.filter((chosen) => chosen === name).length;
          expect(Math.abs(got - (length * weight) / sum)).toBeLessThan(clusters.length);
        }
      }),
    );
  });

  test('never chooses one of weight 0, and nothing from nothing', () => {
    fc.assert(
      fc.property(clusterNames, (names) => {
        expect(
          chooseByWeight(
            names.map((name) => ({ name, weight: 0 })),
            new Map(),
          ),
        ).toBeNull();
      }),
    );
    expect(chooseByWeight([], new Map())).toBeNull();
  });

  test('says the same when asked the same, and changes nothing by it', () => {
    const clusters = [
      { name: 'a', weight: 5 },
      { name: 'b', weight: 1 },
      { name: 'c', weight: 1 },
    ];
    const credits: Credits = new Map();
    expect(chooseByWeight(clusters, credits)).toEqual(chooseByWeight(clusters, credits));
    expect(credits.size).toBe(0);
    expect(rowOf(clusters, 7).join('')).toBe('aabacaa'); // not aaaaabc
  });
});

describe('createPlacement', () => {
  const room = (name: string, weight: number): ClusterRoom => ({ name, weight, maxTenants: null });

  test('among clusters that are up and have room, whatever comes', () => {
    const names = ['a', 'b', 'c', 'd'];
    const some = fc.uniqueArray(fc.constantFrom(...names));
    fc.assert(
      fc.property(fc.array(fc.tuple(some, some), { maxLength: 30 }), (calls) => {
        let down: string[] = [];
        const placement = createPlacement({
          clusters: names.map((name, index) => room(name, index)), // a: only when named
          watch: { takesTenants: (name) => !down.includes(name) },
        });
        for (const [nowDown, full] of calls) {
          down = nowDown;
          const possible = names.filter(
            (name) => name !== 'a' && !down.includes(name) && !full.includes(name),
          );
          const place = placement.place(undefined, new Set(full));
          if ('cluster' in place) expect(possible).toContain(place.cluster.name);
          else {
            expect(possible).toEqual([]);
            const allFull = ['b', 'c', 'd'].every((name) => full.includes(name));
            expect(place.failure.code).toBe(allFull ? 'LIMIT_EXCEEDED' : 'UNAVAILABLE');
          }
        }
      }),
    );
  });

  const placement = createPlacement({
    clusters: [room('up', 1), room('down', 1), room('aside', 0)],
    watch: { takesTenants: (name) => name !== 'down' },
  });

  test.each(['up', 'aside'])('%s: when it is named', (name) => {
    expect(placement.place(name)).toMatchObject({ cluster: { name } });
  });

  test.each([
    ['down', [], 'UNAVAILABLE', 'Cluster down is down; try again later'],
    ['up', ['up'], 'LIMIT_EXCEEDED', 'Cluster up is full'],
    ['elsewhere', [], 'INVALID', 'cluster must be one of: up, down, aside'],
  ] as const)('%s, full: %j: %s', (name, full, code, message) => {
    expect(placement.place(name, new Set(full))).toEqual({
      failure: { code, message, field: ['input', 'cluster'] },
    });
  });

  test('nothing without a name when all have weight 0', () => {
    const aside = createPlacement({
      clusters: [room('aside', 0)],
      watch: { takesTenants: () => true },
    });
    expect(aside.place(undefined)).toMatchObject({
      failure: { code: 'UNAVAILABLE', message: 'No cluster takes new tenants unless it is named' },
    });
  });
});
