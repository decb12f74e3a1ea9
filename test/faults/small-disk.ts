import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, open, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { giveTo, unprivilegedAccount } from '../../src/postgres/embedded/account.ts';

/** A file system that is soon full. */
export interface SmallDisk {
  /** A directory on it for a tablespace of the server. */
  readonly path: string;
  /** Leaves no room. */
  fill(): Promise<void>;
  /** Gives the room back. */
  empty(): Promise<void>;
}

const run = promisify(execFile);
const mounted: string[] = [];

/** Mounts one; null where that is not allowed. `unmountSmallDisks` takes it away again. */
export async function mountSmallDisk(): Promise<SmallDisk | null> {
  const path = await mkdtemp(join(tmpdir(), 'tenantry-disk-'));
  await chmod(path, 0o711);
  try {
    await run('mount', ['-t', 'tmpfs', '-o', 'size=64m,mode=0711', 'tmpfs', path]);
  } catch {
    await rm(path, { recursive: true });
    return null;
  }
  mounted.push(path);
  const space = join(path, 'space');
  await mkdir(space);
  // Whoever may mount is root, and the server of root is another one's.
  await giveTo(await unprivilegedAccount(), space);
  const filler = join(path, 'filler');
  return {
    path: space,

    async fill() {
      const file = await open(filler, 'w');
      try {
        for (;;) await file.write(Buffer.alloc(65_536));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
      } finally {
        await file.close();
      }
    },

    empty: () => truncate(filler, 0),
  };
}

/** Takes away those that were mounted; the server has to be gone by then. */
export async function unmountSmallDisks(): Promise<void> {
  for (const path of mounted.splice(0)) {
    await run('umount', [path]);
    await rm(path, { recursive: true });
  }
}
