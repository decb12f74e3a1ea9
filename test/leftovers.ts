/** What a run that is killed leaves behind, and how the next one finds it. */
import { spawn, type ChildProcess } from 'node:child_process';
import { glob, mkdtemp, readdir, realpath, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sharedDirectory } from '../src/postgres/embedded/binaries.ts';
import { isAlive } from '../src/postgres/embedded/files.ts';
import { endPostmaster, findPostmaster, firmly } from '../src/postgres/embedded/postmaster.ts';

/** A new directory (mode 0700) with a name that says which process made it. */
export async function makeDirectory(): Promise<string> {
  return mkdtemp(join(await realpath(tmpdir()), `tenantry-test-${process.pid}-`));
}

/** Removes the directory, and the server that runs in it or in a DATA_DIR below it. */
export async function removeDirectory(directory: string): Promise<void> {
  // At most two levels down: where the tests put a DATA_DIR.
  for await (const name of glob('{.,*,*/*}/postgres', { cwd: directory })) {
    const path = join(directory, name);
    // A link to files that are gone, or the program of that name.
    if (!((await stat(path).catch(() => null))?.isDirectory() ?? false)) continue;
    const files = await realpath(path);
    const server = await findPostmaster(files);
    if (server !== null) await endPostmaster(server, files, firmly);
    // Outside DATA_DIR when its user could not have reached it there.
    if (!files.startsWith(`${await realpath(sharedDirectory).catch(() => '')}/`)) continue;
    await rm(files, { recursive: true, force: true });
    await rm(`${files}.orphan`, { recursive: true, force: true });
  }
  await rm(directory, { recursive: true, force: true, maxRetries: 5 });
}

/** Removes what runs that were killed left on this machine. */
export async function removeLeftovers(): Promise<void> {
  const parent = await realpath(tmpdir());
  for (const name of await readdir(parent)) {
    const pid = Number(/^tenantry-test-(\d+)-/.exec(name)?.[1]);
    if (Number.isNaN(pid) || isAlive(pid)) continue;
    // Another user's are that user's to remove.
    await removeDirectory(join(parent, name)).catch(() => undefined);
  }
}

/**
 * Has a child killed when this process is killed, which could not do it by itself any more. To be
 * killed in turn once the child has ended.
 *
 * @param target a process id, or the negative of a process group's
 */
export function guard(target: number): ChildProcess {
  // Its standard input ends when we do.
  const guardian = spawn('sh', ['-c', `read -r _; kill -9 ${target}`], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  guardian.unref();
  return guardian;
}
