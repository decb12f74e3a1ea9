import { mkdir, writeFile } from 'node:fs/promises';

/** One measure beside its floor, both taken in the same run. */
export interface Figure {
  readonly measure: string;
  readonly floor: string;
  readonly times: readonly number[];
  readonly floorTimes: readonly number[];
  /** The ratio of the medians has to be at most this; absent: shown for comparison only. */
  readonly goal?: number;
}

/** Milliseconds that `work` took. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}

/** The middle one. */
export function median(times: readonly number[]): number {
  return times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)] ?? NaN;
}

/**
 * Writes the figures to `bench/results/<name>.json` and `.md`, prints the table, and fails the process
 * when a goal is missed.
 */
export async function report(name: string, figures: readonly Figure[]): Promise<void> {
  const results = figures.map(({ measure, floor, times, floorTimes, goal }) => ({
    measure,
    floor,
    samples: times.length,
    p50Ms: round(median(times)),
    floorP50Ms: round(median(floorTimes)),
    ratio: round(median(times) / median(floorTimes)),
    goal: goal ?? null,
  }));
  const rows = results.map(
    ({ measure, floor, p50Ms, floorP50Ms, ratio, goal }) =>
      `| ${measure} | ${p50Ms} ms | ${floor} | ${floorP50Ms} ms | ${ratio} | ${goal === null ? '' : `≤ ${goal}`} |`,
  );
  const table = [
    '| measure | p50 | beside | p50 | ratio | goal |',
    '| --- | --- | --- | --- | --- | --- |',
    ...rows,
    '',
  ].join('\n');
  await publish(name, results, table);
  if (results.some(({ ratio, goal }) => goal !== null && ratio > goal)) process.exitCode = 1;
}

/** Writes results to `bench/results/<name>.json` and `.md`, and prints the table. */
export async function publish(name: string, results: unknown, table: string): Promise<void> {
  const folder = new URL('results/', import.meta.url);
  await mkdir(folder, { recursive: true });
  await writeFile(new URL(`${name}.json`, folder), `${JSON.stringify(results, null, 2)}\n`);
  await writeFile(new URL(`${name}.md`, folder), table);
  console.log(table);
}

/** Rounds to hundredths. */
export function round(value: number): number {
  return Math.round(value * 100) / 100;
}
