/** What the faults came to, for people. */
interface Line {
  runs: number;
  left: number;
  longestMs: number;
}

const lines = new Map<string, Line>();

/** Counts runs of a fault. */
export function record(fault: string, runs: number, left: number, ms: number): void {
  const line = lines.get(fault) ?? { runs: 0, left: 0, longestMs: 0 };
  line.runs += runs;
  line.left += left;
  line.longestMs = Math.max(line.longestMs, ms);
  lines.set(fault, line);
}

/** The table: fault, runs, left behind, longest time to a clean end. */
export function table(): string {
  const width = Math.max(...[...lines.keys()].map(({ length }) => length), 5);
  const rows = [...lines].map(
    ([fault, { runs, left, longestMs }]) =>
      `| ${fault.padEnd(width)} | ${String(runs).padStart(4)} | ${String(left).padStart(11)} | ${(longestMs / 1000).toFixed(1).padStart(9)} |`,
  );
  const total = [...lines.values()].reduce((sum, { runs }) => sum + runs, 0);
  return [
    `| ${'fault'.padEnd(width)} | runs | left behind | longest s |`,
    `| ${'-'.repeat(width)} | ---: | ----------: | --------: |`,
    ...rows,
    `${total} runs`,
  ].join('\n');
}
