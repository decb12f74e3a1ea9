import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { tableOf } from './table.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** What repeats the choices of a run. */
    readonly faultSeed: number;
    /** File in which the outcomes are gathered. */
    readonly faultOutcomes: string;
  }
}

/** Prints the seed before the faults, and the table of what they came to after them. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const seed = Number(process.env['FAULT_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
  const folder = await mkdtemp(join(tmpdir(), 'tenantry-faults-'));
  const outcomes = join(folder, 'outcomes');
  await writeFile(outcomes, '');
  project.provide('faultSeed', seed);
  project.provide('faultOutcomes', outcomes);
  console.log(`FAULT_SEED=${seed}`);
  return async () => {
    console.log(await tableOf(outcomes));
    await rm(folder, { recursive: true });
  };
}
