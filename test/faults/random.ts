/** Chance that can be repeated: the same seed, the same choices. */
export interface Chance {
  /** A whole number from 0 to `below` - 1. */
  readonly below: (limit: number) => number;
  pick<T>(list: readonly T[]): T;
}

/** Source of the generator: mulberry32, public domain. */
export function chance(seed: number): Chance {
  let state = seed;
  function next(): number {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }
  const below = (limit: number): number => Math.floor(next() * limit);
  return {
    below,
    pick: (list) => {
      const one = list[below(list.length)];
      if (one === undefined) throw new Error('nothing to pick from');
      return one;
    },
  };
}
