import type pg from 'pg';
import { expect } from 'vitest';

/**
 * A search that compares all of the pattern at each place, without looking for a signal. The texts are
 * made first, in milliseconds, and that can be interrupted: few places, and a long pattern.
 */
const search = (places: number): string =>
  `SELECT position('b' || repeat('a', 500000) IN repeat('a', ${500_000 + places}))`;

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
  const sample = 1_000;
  let shortest = Infinity;
  for (let run = 0; run < 4; run += 1) {
    const begun = performance.now();
    await session.query(search(sample));
    shortest = Math.min(shortest, performance.now() - begun);
  }
  const text = search(Math.round((sample * seconds * 1000) / shortest));
  const ended = session.query(text).catch(() => undefined);
  await expect
    .poll(async () => {
      // Long enough for its texts to be there.
      const { rows } = await observer.query(
        `SELECT FROM pg_stat_activity WHERE pid = $1 AND state = 'active' AND query = $2
           AND query_start < clock_timestamp() - interval '200ms'`,
        [pid, text],
      );
      return rows.length;
    })
    .toBe(1);
  return { ended };
}
