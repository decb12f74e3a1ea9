/** What the first start makes: the password, and the data directory. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { link, mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { SettingError } from '../../errors.ts';
import { giveTo } from './account.ts';
import { aside, textOf } from './files.ts';
import { isInitialised } from './home.ts';
import type { Home } from './home.ts';
import { serverEnvironment } from './postmaster.ts';
import { codeOf } from '../error-codes.ts';

/** The name of the server's superuser, and of the control plane's database. */
export const superuser = 'tenantry';

/**
 * The superuser's password, made at the first start.
 *
 * @throws SettingError when the server is older than its password file: the password is lost
 */
export async function keepPassword(home: Home): Promise<string> {
  const kept = await textOf(home.passwordFile);
  if (kept) return kept;
  if (await isInitialised(home.directory)) {
    throw new SettingError(
      'DATA_DIR',
      `${home.passwordFile} is missing, and the server in ${home.directory} cannot be opened without it; put it back, or set another DATA_DIR`,
    );
  }
  await aside(home.passwordFile, async (temporary) => {
    const password = randomBytes(24).toString('base64url');
    await writeFile(temporary, `${password}\n`, { mode: 0o600, flag: 'wx' });
    // A link, unlike a rename, never replaces: of two starts at once, both go on with the first's.
    await link(temporary, home.passwordFile).catch((error: unknown) => {
      if (codeOf(error) !== 'EEXIST') throw error;
    });
  });
  const made = await textOf(home.passwordFile);
  if (made) return made;
  throw new SettingError('DATA_DIR', `${home.passwordFile} is empty; delete it`);
}

/**
 * Makes the data directory, unless it is there. It is made under another name and put in place
 * complete, so that a start that was cut off leaves nothing that looks like a server.
 *
 * @param initdb path of the program
 * @throws SettingError when initdb fails, or something else is in the directory's place
 */
export async function initialise(home: Home, initdb: string, password: string): Promise<void> {
  if (await isInitialised(home.directory)) return;
  await aside(home.directory, async (temporary) => {
    const made = join(temporary, 'made');
    const passwordFile = join(temporary, 'password');
    await mkdir(temporary, { mode: 0o700 });
    await writeFile(passwordFile, `${password}\n`, { mode: 0o600 });
    await giveTo(home.account, passwordFile);
    await giveTo(home.account, temporary);
    await runInitdb(home, initdb, made, passwordFile);
    await rename(made, home.directory).catch((error: unknown) => {
      // Another start was faster; it used the same password.
      if (codeOf(error) !== 'ENOTEMPTY' && codeOf(error) !== 'EEXIST') throw error;
    });
  });
  if (await isInitialised(home.directory)) return;
  throw new SettingError(
    'DATA_DIR',
    `${home.directory} is neither empty nor a PostgreSQL data directory; move it elsewhere`,
  );
}

async function runInitdb(
  home: Home,
  initdb: string,
  directory: string,
  passwordFile: string,
): Promise<void> {
  const options = [
    `--pgdata=${directory}`,
    `--username=${superuser}`,
    `--pwfile=${passwordFile}`,
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    // PostgreSQL's own collation sorts the same on every system, and after a system's update.
    '--locale=C',
    '--locale-provider=builtin',
    '--builtin-locale=C.UTF-8',
    '--no-instructions',
  ];
  try {
    await promisify(execFile)(initdb, options, {
      ...home.account,
      cwd: '/',
      env: serverEnvironment,
    });
  } catch (error) {
    // Without a number there was no exit: the program could not be started at all.
    if (!(error instanceof Error && 'stderr' in error) || codeOf(error) !== undefined) throw error;
    const said = String(error.stderr).trim().split('\n').slice(-3).join('; ');
    throw new SettingError('DATA_DIR', `initdb could not make a server: ${said || error.message}`);
  }
}
