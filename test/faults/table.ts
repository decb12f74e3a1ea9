import { appendFile, readFile } from 'node:fs/promises';
import { inject } from 'vitest';

/** What one look at the end state came to. */
interface Outcome {
  readonly fault: string;
  readonly runs: number;
  readonly left: number;
  readonly ms: number;
}

/** Notes runs of a fault; the table is printed when all files have run. */
export async function record(fault: string, runs: number, left: number, ms: number): Promise<void> {
  const outcome: Outcome = { fault, runs, left, ms };
  await appendFile(inject('faultOutcomes'), `${JSON.stringify(outcome)}\n`);
}

/** The table: fault, runs, left behind, longest time to a clean end. */
export async function tableOf(path: string): Promise<string> {
  const lines = (await readFile(path, 'utf8')).split('\n').filter((line) => line !== '');
  const outcomes = lines.map((line) => JSON.parse(line) as Outcome);
  const faults = Map.groupBy(outcomes, ({ fault }) => fault);
  const sum = (list: readonly Outcome[], count: 'runs' | 'left'): number =>
    list.reduce((total, one) => total + one[count], 0);
  const row = (name: string, list: readonly Outcome[]): string[] => [
    name,
    String(sum(list, 'runs')),
    String(sum(list, 'left')),
    (Math.max(0, ...list.map(({ ms }) => ms)) / 1000).toFixed(1),
  ];
  const rows = [
    ['fault', 'runs', 'left behind', 'longest s'],
    ['---', '---:', '---:', '---:'],
    ...[...faults].map(([fault, list]) => row(fault, list)),
    row('all', outcomes),
  ];
  const widths = [0, 1, 2, 3].map((column) =>
    Math.max(...rows.map((cells) => cells[column]?.length ?? 0)),
  );
  return rows
    .map((cells) => `| ${cells.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join(' | ')} |`)
    .join('\n');
}
