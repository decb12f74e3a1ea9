import type pg from 'pg';
import { expect } from 'vitest';

/** A long text whose search compares all of the pattern at each place, without looking for a signal. */
const search = (places: number): string =>
  `SELECT position('b' || repeat('a', 10000) IN repeat('a', ${10_000 + places}))`;

/**
 * Has a session run a statement that cannot be interrupted, for some seconds (as measured with a short
 * one). Resolves once it runs.
 *
 * @param pid of the session
 */
export async function runUninterruptibly(
  session: pg.Client,
  observer: pg.Client,
  pid: number,
  seconds = 4,
): Promise<{ readonly ended: Promise<unknown> }> {
  const sample = 100_000;
  let shortest = Infinity;
  for (let run = 0; run < 4; run += 1) {
    const begun = performance.now();
    await session.query(search(sample));
    shortest = Math.min(shortest, performance.now() - begun);
  }
  const places = Math.round((sample * seconds * 1000) / shortest);
  const ended = session.query(search(places)).catch(() => undefined);
  await expect
    .poll(async () => {
      const { rows } = await observer.query<{ query: string }>(
        `SELECT query FROM pg_stat_activity WHERE pid = $1 AND state = 'active'`,
        [pid],
      );
      return rows[0]?.query;
    })
    .toBe(search(places));
  return { ended };
}
