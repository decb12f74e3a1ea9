/** Who the default server runs as, and where that user can go. PostgreSQL refuses to run as root. */
import { chown, readFile, realpath, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { SettingError } from '../../errors.ts';

/** An operating-system user; null: the one this process runs as. */
export type Account = { readonly uid: number; readonly gid: number } | null;

/** Tells whether this process is root's. */
export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/**
 * The user that a new server of root's runs as. None is ever created.
 *
 * @throws SettingError when /etc/passwd has neither `postgres` nor `nobody`
 */
export async function unprivilegedAccount(): Promise<NonNullable<Account>> {
  const lines = (await readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':'));
  const entry =
    lines.find(([name]) => name === 'postgres') ?? lines.find(([name]) => name === 'nobody');
  if (entry === undefined) {
    throw new SettingError(
      'DATA_DIR',
      'PostgreSQL does not run as root, and /etc/passwd has no user "postgres" or "nobody" to run it as; start as an ordinary user, or set DATABASE_URL',
    );
  }
  // macOS writes nobody's ids as -2: an unsigned number to the kernel.
  return { uid: Number(entry[2]) >>> 0, gid: Number(entry[3]) >>> 0 };
}

/** Hands a file or directory to the server's user. */
export async function giveTo(account: Account, path: string): Promise<void> {
  if (account !== null) await chown(path, account.uid, account.gid);
}

/**
 * The first of `path` and the directories above it (symbolic links followed) that the account may
 * not enter or execute by its mode bits; null when the way is open.
 */
export async function firstClosed(
  path: string,
  account: NonNullable<Account>,
): Promise<string | null> {
  const steps: string[] = [];
  for (let step = await realpath(path); ; step = dirname(step)) {
    steps.unshift(step);
    if (step === dirname(step)) break;
  }
  for (const step of steps) {
    const { mode, uid, gid } = await stat(step);
    const bit = uid === account.uid ? 0o100 : gid === account.gid ? 0o010 : 0o001;
    if ((mode & bit) === 0) return step;
  }
  return null;
}
