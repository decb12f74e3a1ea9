import { existsSync } from 'node:fs';
import { chmod, cp, lstat, mkdir, readlink, realpath, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import {
  firstClosed,
  isRoot,
  unprivilegedAccount,
} from '../../../src/postgres/embedded/account.ts';
import { findBinaries, reachable } from '../../../src/postgres/embedded/binaries.ts';
import { cleanUp, freshDirectory, gateway, postmasterPid, query, start } from './world.ts';

/** An ordinary user that exists nearly everywhere. */
const nobody = { uid: 65_534, gid: 65_534 };
const checkout = join(import.meta.dirname, '..', '..', '..');
const nobodyReadsCheckout = (await firstClosed(checkout, nobody)) === null;

afterEach(cleanUp);

describe.runIf(isRoot())('startEmbedded as root', () => {
  it('keeps the files in DATA_DIR, for an unprivileged user, when that user can get there', async () => {
    const dataDir = join(await freshDirectory(0o711), 'made', 'data');
    await start(dataDir);
    const account = await unprivilegedAccount();
    expect(await stat(join(dataDir, 'postgres'))).toMatchObject(account);
    expect(await stat(`/proc/${await postmasterPid(dataDir)}`)).toMatchObject(account);
    expect(await stat(dataDir)).toMatchObject({ uid: 0, gid: account.gid, mode: 0o40710 });
  });

  it('keeps them outside a DATA_DIR that is closed to that user', async () => {
    const closed = await freshDirectory(0o700);
    const dataDir = join(closed, 'data');
    const first = await start(dataDir);
    expect(await readlink(join(dataDir, 'postgres'))).toMatch(
      /^\/var\/lib\/tenantry\/[0-9a-f]{16}$/,
    );
    expect((await stat(closed)).mode & 0o777).toBe(0o700);
    await query(first.url, 'create table kept as select 7 as seven');
    await first.stop();

    const second = await start(dataDir);
    expect(second.url).toBe(first.url);
    expect(await query(second.url, 'select seven from kept')).toEqual([{ seven: 7 }]);
  });

  it('takes over there, too', async () => {
    const dataDir = join(await freshDirectory(0o700), 'data');
    const killed = await gateway(dataDir);
    await killed.kill();
    expect(await start(dataDir)).toMatchObject({ adopted: true, url: killed.url });
  });

  it('finds the way back when it was killed before the link was made', async () => {
    const dataDir = join(await freshDirectory(0o700), 'data');
    const first = await start(dataDir);
    await first.stop();
    await rm(join(dataDir, 'postgres'));
    expect((await start(dataDir)).url).toBe(first.url);
    expect((await lstat(join(dataDir, 'postgres'))).isSymbolicLink()).toBe(true);
  });

  it('sets aside what a deleted DATA_DIR left outside, and stops the server there', async () => {
    const dataDir = join(await freshDirectory(0o700), 'data');
    const killed = await gateway(dataDir);
    await killed.kill();
    const directory = await realpath(join(dataDir, 'postgres'));
    await rm(dataDir, { recursive: true });

    const lines: string[] = [];
    const next = await start(dataDir, { log: (line) => lines.push(line) });
    expect(next.adopted).toBe(false);
    expect(lines.join()).toContain(`${directory}.orphan`);
    await expect(query(killed.url, 'select')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    expect(existsSync(`${directory}.orphan/postmaster.pid`)).toBe(false);
  });

  it('does not lose the data of a DATA_DIR that was moved', async () => {
    const parent = await freshDirectory(0o700);
    const first = await start(join(parent, 'data'));
    await first.stop();
    await rename(join(parent, 'data'), join(parent, 'moved'));
    expect((await start(join(parent, 'moved'))).url).toBe(first.url);
  });

  it('refuses files that belong to root, and a link to files that are gone', async () => {
    const dataDir = join(await freshDirectory(0o711), 'data');
    const first = await start(dataDir);
    await first.stop();
    await promisify(execFile)('chown', ['-R', '0', join(dataDir, 'postgres')]);
    await expect(start(dataDir)).rejects.toThrow(/^DATA_DIR: .*belong to root/);

    const closed = join(await freshDirectory(0o700), 'data');
    await (await start(closed)).stop();
    await rm(await realpath(join(closed, 'postgres')), { recursive: true });
    await expect(start(closed)).rejects.toThrow(/^DATA_DIR: .*link to server files that are gone/);
  });

  it('copies the programs to where the server can run them, once', async () => {
    const { postgres } = await findBinaries(null);
    const closed = await freshDirectory(0o700);
    const native = join(closed, 'native');
    await cp(dirname(dirname(postgres)), native, { recursive: true, verbatimSymlinks: true });
    await promisify(execFile)('chmod', ['-R', 'go=', native]); // as an install with umask 077
    const shared = join(await freshDirectory(0o711), 'shared');
    const account = await unprivilegedAccount();

    const [copy, same] = await Promise.all([
      reachable(native, '18.0.0', account, shared),
      reachable(native, '18.0.0', account, shared),
    ]);
    expect(copy).toBe(join(shared, `postgresql-18.0.0-${process.platform}-${process.arch}`));
    expect(same).toBe(copy);
    const { stdout } = await promisify(execFile)(
      join(copy, 'bin', 'postgres'),
      ['--version'],
      account,
    );
    expect(stdout).toContain('PostgreSQL) 18');
    await promisify(execFile)('find', [join(copy, 'share'), '-type', 'f'], account);

    await chmod(closed, 0o711);
    await promisify(execFile)('chmod', ['-R', 'go=rX', native]);
    expect(await reachable(native, '18.0.0', account, shared)).toBe(native);
  });
});

describe.runIf(isRoot() && nobodyReadsCheckout)('startEmbedded as an ordinary user', () => {
  it('runs the server as that user, and root goes on with it as that user', async () => {
    const parent = await freshDirectory(0o777);
    const dataDir = join(parent, 'data');
    const ordinary = await gateway(dataDir, nobody);
    expect(await query(ordinary.url, 'select 1 as one')).toEqual([{ one: 1 }]);
    expect(await stat(join(dataDir, 'postgres'))).toMatchObject(nobody);
    expect((await stat(dataDir)).mode & 0o777).toBe(0o700);
    await ordinary.kill();

    const byRoot = await start(dataDir);
    expect(byRoot).toMatchObject({ adopted: true, url: ordinary.url });
    await byRoot.stop();
    expect(await start(dataDir)).toMatchObject({ adopted: false, url: ordinary.url });
    expect(await stat(`/proc/${await postmasterPid(dataDir)}`)).toMatchObject(nobody);
  });

  it("refuses another user's files", async () => {
    const dataDir = join(await freshDirectory(0o711), 'data');
    await (await start(dataDir)).stop();
    await expect(gateway(dataDir, nobody)).rejects.toThrow(
      /SettingError.*DATA_DIR: EACCES.*another user/,
    );

    const readable = join(await freshDirectory(0o777), 'data');
    await mkdir(readable);
    await chmod(readable, 0o777);
    await (await start(readable)).stop();
    await expect(gateway(readable, nobody)).rejects.toThrow(/DATA_DIR: .*belong to another user/);
  });
});
