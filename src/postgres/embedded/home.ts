/** Where the default server's files are in DATA_DIR, or outside it, and whose they are. */
import { createHash } from 'node:crypto';
import {
  chmod,
  chown,
  lstat,
  mkdir,
  readdir,
  realpath,
  rename,
  rm,
  stat,
  symlink,
} from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { SettingError } from '../../errors.ts';
import { firstClosed, isRoot, unprivilegedAccount } from './account.ts';
import type { Account } from './account.ts';
import { makeShared, sharedDirectory } from './binaries.ts';
import { ifThere } from './files.ts';
import { endPostmaster, findPostmaster, politely } from './postmaster.ts';
import { codeOf } from '../error-codes.ts';

/** The files of one default server. All paths are absolute and real (no symbolic links in them). */
export interface Home {
  readonly dataDir: string;
  /** PostgreSQL's data directory; it may not exist yet. */
  readonly directory: string;
  /** The user that owns the data directory and runs the server. */
  readonly account: Account;
  readonly passwordFile: string;
  readonly portFile: string;
  readonly logFile: string;
}

/**
 * Finds the server's place, making DATA_DIR when there is none.
 *
 * @throws SettingError when the files are another user's, or cannot be reached
 */
export async function openHome(given: string, log: (line: string) => void): Promise<Home> {
  const newAccount = isRoot() ? await unprivilegedAccount() : null;
  await makeDataDir(resolve(given), newAccount);
  const dataDir = await realpath(resolve(given));
  const place = await placeIn(dataDir, newAccount, log);
  return {
    dataDir,
    ...place,
    passwordFile: passwordFileIn(dataDir),
    portFile: portFileIn(dataDir),
    logFile: join(dataDir, 'postgres.log'),
  };
}

/** Tells whether the data directory holds a server. It is only ever put there complete. */
export async function isInitialised(directory: string): Promise<boolean> {
  return (await ifThere(stat(join(directory, 'PG_VERSION')))) !== null;
}

/** Puts a link into DATA_DIR when the server's files are elsewhere: the way back to them. */
export async function linkHome(home: Home): Promise<void> {
  const link = linkIn(home.dataDir);
  if (link === home.directory) return;
  await symlink(home.directory, link).catch((error: unknown) => {
    if (codeOf(error) !== 'EEXIST') throw error;
  });
  if ((await realpath(link)) !== home.directory) {
    throw new SettingError(
      'DATA_DIR',
      `${link} is in the way: it should link to ${home.directory}; move it elsewhere`,
    );
  }
}

const linkIn = (dataDir: string): string => join(dataDir, 'postgres');
/** The file with the superuser's password. */
export const passwordFileIn = (dataDir: string): string => join(dataDir, 'postgres.password');

/** The file with the server's port. */
export const portFileIn = (dataDir: string): string => join(dataDir, 'postgres.port');

async function makeDataDir(dataDir: string, account: Account): Promise<void> {
  const made = await mkdir(dataDir, { recursive: true, mode: 0o700 });
  if (made === undefined || account === null) return;
  // The server's user must pass through what root made. Its group may, nobody else, and not list it.
  for (let step = dataDir; ; step = dirname(step)) {
    await chown(step, 0, account.gid);
    await chmod(step, 0o710);
    if (step === made) return;
  }
}

type Place = Pick<Home, 'directory' | 'account'>;

async function placeIn(
  dataDir: string,
  newAccount: Account,
  log: (line: string) => void,
): Promise<Place> {
  const link = linkIn(dataDir);
  if ((await ifThere(lstat(link))) !== null) {
    const directory = await ifThere(realpath(link));
    if (directory === null) {
      throw new SettingError(
        'DATA_DIR',
        `${link} is a link to server files that are gone; put them back, or set another DATA_DIR`,
      );
    }
    if (await holdsFiles(directory)) return { directory, account: await ownerOf(directory) };
  }
  if (newAccount === null) return { directory: link, account: null };
  if ((await firstClosed(dataDir, newAccount)) === null) {
    return { directory: link, account: newAccount };
  }
  return { directory: await placeElsewhere(dataDir, log), account: newAccount };
}

/** A directory that this user may not list is another's: the check of its owner says so. */
async function holdsFiles(directory: string): Promise<boolean> {
  try {
    return (await readdir(directory)).length > 0;
  } catch (error) {
    if (codeOf(error) === 'EACCES') return true;
    throw error;
  }
}

/** PostgreSQL serves only files of the user it runs as, so the owner of the files decides. */
async function ownerOf(directory: string): Promise<Account> {
  const { uid, gid } = await stat(directory);
  if (!isRoot()) {
    if (uid === process.getuid?.()) return null;
    throw new SettingError(
      'DATA_DIR',
      `the server files in ${directory} belong to another user (id ${uid}); start as the user that made them, or set another DATA_DIR`,
    );
  }
  if (uid === 0) {
    throw new SettingError(
      'DATA_DIR',
      `the server files in ${directory} belong to root, as which PostgreSQL does not run; give them (chown -R) to the user they had`,
    );
  }
  const account = { uid, gid };
  const closed = await firstClosed(directory, account);
  if (closed !== null) {
    throw new SettingError(
      'DATA_DIR',
      `the user that owns the server files in ${directory} (id ${uid}) may not enter ${closed}`,
    );
  }
  return account;
}

/** The server's place for a DATA_DIR that its user cannot reach, one for each DATA_DIR. */
async function placeElsewhere(dataDir: string, log: (line: string) => void): Promise<string> {
  await makeShared(sharedDirectory);
  const name = createHash('sha256').update(dataDir).digest('hex').slice(0, 16);
  const directory = join(await realpath(sharedDirectory), name);
  // The directory first, the password second: a start at the same time makes them the other way
  // round, so its directory is never seen without its password.
  const left = await ifThere(lstat(directory));
  if (left !== null && (await ifThere(lstat(passwordFileIn(dataDir)))) === null) {
    await setAside(directory, dataDir, log);
  }
  return directory;
}

/**
 * What a DATA_DIR that was at this path left behind: it was deleted, with the password and the keys,
 * or moved. A moved one still needs its files, so the last such are kept, under another name.
 */
async function setAside(
  directory: string,
  dataDir: string,
  log: (line: string) => void,
): Promise<void> {
  const running = await findPostmaster(directory);
  const kept = `${directory}.orphan`;
  await rm(kept, { recursive: true, force: true });
  // Before the server is stopped, which takes long enough for another start to put its own there.
  await rename(directory, kept);
  if (running !== null) await endPostmaster(running, directory, politely);
  log(
    `The server files of an earlier ${dataDir} were still there; they are now in ${kept}, which can be deleted if that DATA_DIR is gone for good`,
  );
}
