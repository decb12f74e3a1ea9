/** File operations that a kill at any point leaves either done or not done. */
import { randomBytes } from 'node:crypto';
import { readdir, readFile, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { codeOf } from '../error-codes.ts';

/** Names in use by this very process, which its id alone does not tell from those of a dead one. */
const underway = new Set<string>();

/**
 * Runs `build` with an unused name next to `target` (so that a rename stays on one file system), and
 * removes whatever is still there afterwards. After a kill, `removeLeftovers` does.
 */
export async function aside(
  target: string,
  build: (temporary: string) => Promise<void>,
): Promise<void> {
  const temporary = `${target}.new-${process.pid}-${randomBytes(4).toString('hex')}`;
  underway.add(temporary);
  try {
    await build(temporary);
  } finally {
    await rm(temporary, { recursive: true, force: true, maxRetries: 3 });
    underway.delete(temporary);
  }
}

/** Removes what killed processes left next to `target` in `aside`. */
export async function removeLeftovers(target: string): Promise<void> {
  const prefix = `${basename(target)}.new-`;
  for (const name of await readdir(dirname(target))) {
    if (!name.startsWith(prefix)) continue;
    const path = join(dirname(target), name);
    const pid = Number(name.slice(prefix.length).split('-')[0]);
    // In a container this process may well have the id of the one that was killed.
    const inUse = pid === process.pid ? underway.has(path) : isAlive(pid);
    if (inUse) continue;
    // A program of the killed start may still write there; then the next start has another go.
    await rm(path, { recursive: true, force: true }).catch(() => undefined);
  }
}

/** The value, or null when its file or directory does not exist. */
export async function ifThere<T>(reading: Promise<T>): Promise<T | null> {
  try {
    return await reading;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null;
    throw error;
  }
}

/** The trimmed text of a file; null when there is none. */
export async function textOf(path: string): Promise<string | null> {
  const text = await ifThere(readFile(path, 'utf8'));
  return text?.trim() ?? null;
}

/** Tells whether a process has this id. One of another user counts; a zombie does too. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) === 'EPERM';
  }
}
