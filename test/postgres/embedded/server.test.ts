import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { watch } from 'node:fs';
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isPostmaster } from '../../../src/postgres/embedded/postmaster.ts';
import { cleanUp, freshDirectory, gateway, postmasterPid, query, start } from './world.ts';

let dataDir: string;
beforeEach(async () => {
  dataDir = join(await freshDirectory(0o711), 'data');
});
afterEach(cleanUp);

describe('startEmbedded', () => {
  it('starts a server that keeps its address and its data over a restart', async () => {
    const first = await start(dataDir);
    expect(first.adopted).toBe(false);
    expect(first.url).toMatch(/^postgres:\/\/tenantry:[\w-]{32}@127\.0\.0\.1:\d+\/tenantry$/);
    const port = Number(new URL(first.url).port);
    expect(port).toBeGreaterThanOrEqual(20_000);
    expect(port).toBeLessThanOrEqual(32_000);
    await query(first.url, 'create table kept as select 7 as seven');
    await Promise.all([first.stop(), first.stop()]);

    const second = await start(dataDir);
    expect(second.url).toBe(first.url);
    expect(second.adopted).toBe(false);
    expect(await query(second.url, 'select seven from kept')).toEqual([{ seven: 7 }]);
  });

  it('listens on the loopback only, demands the password and sorts the same everywhere', async () => {
    const { url } = await start(dataDir);
    const [row] = await query(
      url,
      `select current_setting('listen_addresses') as addresses,
              current_setting('unix_socket_directories') as sockets,
              current_setting('server_encoding') as encoding,
              (select datlocprovider::text || datlocale from pg_database where datname = 'tenantry') as locale,
              (select rolsuper from pg_roles where rolname = current_user) as superuser`,
    );
    expect(row).toEqual({
      addresses: '127.0.0.1',
      sockets: '',
      encoding: 'UTF8',
      locale: 'bC.UTF-8',
      superuser: true,
    });
    const wrong = new URL(url);
    wrong.password = 'guess';
    await expect(query(wrong.href, 'select')).rejects.toMatchObject({ code: '28P01' });
  });

  it('keeps secrets from other users, from the log and from the server', async () => {
    process.env['SECRET_FOR_NOBODY'] = 'x';
    const { url } = await start(dataDir);
    delete process.env['SECRET_FOR_NOBODY'];
    expect((await stat(join(dataDir, 'postgres.password'))).mode & 0o777).toBe(0o600);
    expect((await stat(dataDir)).mode & 0o007).toBe(0);

    const failing = query(url, `create role someone password 'hunter2' nonsense`);
    await expect(failing).rejects.toThrow('nonsense');
    const log = await readFile(join(dataDir, 'postgres.log'), 'utf8');
    expect(log).toContain('nonsense');
    expect(log).not.toContain('hunter2');
    expect(log).not.toContain(new URL(url).password);

    const environment = await query(
      url,
      `select pg_read_file('/proc/' || pg_backend_pid() || '/environ') as text`,
    ).catch(() => []); // no /proc on macOS
    expect(JSON.stringify(environment)).not.toContain('SECRET_FOR_NOBODY');
  });

  it('takes over the server of a gateway that was killed', async () => {
    const killed = await gateway(dataDir);
    await query(killed.url, 'create table kept as select 7 as seven');
    await killed.kill();

    const next = await start(dataDir);
    expect(next.adopted).toBe(true);
    expect(next.url).toBe(killed.url);
    expect(await query(next.url, 'select seven from kept')).toEqual([{ seven: 7 }]);
    const pid = await postmasterPid(dataDir);
    await next.stop();
    expect(await isPostmaster(pid, join(dataDir, 'postgres'))).toBe(false);
  });

  it('replaces a server that does not answer', async () => {
    const killed = await gateway(dataDir);
    await killed.kill();
    const pid = await postmasterPid(dataDir);
    process.kill(pid, 'SIGSTOP');

    const lines: string[] = [];
    const next = await start(dataDir, { log: (line) => lines.push(line) });
    expect(next.adopted).toBe(false);
    expect(next.url).toBe(killed.url);
    expect(lines.join()).toContain(`${pid} does not answer`);
    expect(await postmasterPid(dataDir)).not.toBe(pid);
  });

  it('recovers a server that was killed together with its gateway', async () => {
    const killed = await gateway(dataDir);
    await query(killed.url, 'create table kept as select 7 as seven');
    await killed.kill();
    process.kill(await postmasterPid(dataDir), 'SIGKILL');

    const next = await start(dataDir);
    expect(next.url).toBe(killed.url);
    expect(await query(next.url, 'select seven from kept')).toEqual([{ seven: 7 }]);
  });

  it('leaves a process alone that has the id of a dead server', async () => {
    const first = await start(dataDir);
    const lockFile = join(dataDir, 'postgres', 'postmaster.pid');
    const text = await readFile(lockFile, 'utf8');
    await first.stop();
    const { uid, gid } = await stat(join(dataDir, 'postgres'));
    // The same user's, or PostgreSQL would see by itself that it is no server of its own.
    const other = spawn('sleep', ['600'], { uid, gid, stdio: 'ignore' });
    await once(other, 'spawn');
    try {
      await writeFile(lockFile, text.replace(/^\d+/, String(other.pid)));
      const next = await start(dataDir);
      expect(next.adopted).toBe(false);
      expect(other.exitCode ?? other.signalCode).toBeNull();
    } finally {
      other.kill();
    }
  });

  it.each(['', '4711'])('starts in spite of a lock file that holds only "%s"', async (text) => {
    await (await start(dataDir)).stop();
    await writeFile(join(dataDir, 'postgres', 'postmaster.pid'), text);
    expect((await start(dataDir)).adopted).toBe(false);
  });

  it('starts anew after a first start that was killed half-way', async () => {
    await mkdir(dataDir, { mode: 0o711 });
    const begun = new Promise<void>((resolve) => {
      const watcher = watch(dataDir, (_event, name) => {
        if (name?.startsWith('postgres.new-') !== true) return;
        watcher.close();
        resolve();
      });
    });
    const killed = gateway(dataDir);
    killed.catch(() => {});
    await begun;
    await killed.kill();

    const next = await start(dataDir);
    expect(await query(next.url, 'select 1 as one')).toEqual([{ one: 1 }]);
  });

  it('removes what killed first starts left', async () => {
    const dead = spawn('true');
    await once(dead, 'exit');
    const leftovers = [`postgres.new-${dead.pid!}-ab`, `postgres.new-${process.pid}-cd`];
    for (const name of leftovers) {
      await mkdir(join(dataDir, name, 'made', 'base'), { recursive: true, mode: 0o711 });
      await writeFile(join(dataDir, name, 'made', 'PG_VERSION'), '18\n');
    }
    await start(dataDir);
    expect((await readdir(dataDir)).sort()).toEqual([
      'postgres',
      'postgres.log',
      'postgres.password',
      'postgres.port',
    ]);
  });
});

describe('what an operator can mend', () => {
  it('is a port that another process took', async () => {
    const first = await start(dataDir);
    await first.stop();
    const port = Number(new URL(first.url).port);
    const other = createServer().listen(port, '127.0.0.1');
    await once(other, 'listening');
    try {
      const refusal = start(dataDir);
      await expect(refusal).rejects.toThrow(`DATA_DIR: port ${port} of 127.0.0.1`);
      await expect(refusal).rejects.toThrow(join(dataDir, 'postgres.port'));
    } finally {
      other.close();
    }
    expect((await start(dataDir)).url).toBe(first.url);
  });

  it('is a password that is lost or wrong, and no message shows one', async () => {
    await (await start(dataDir)).stop();
    const file = join(dataDir, 'postgres.password');
    const password = await readFile(file, 'utf8');
    await writeFile(file, 'another-password');
    await expect(start(dataDir)).rejects.toThrow(/^DATA_DIR: (?!.*another-password).*not open/);
    await rm(file);
    await expect(start(dataDir)).rejects.toThrow(`DATA_DIR: ${file} is missing`);
    await writeFile(file, password);
    expect((await start(dataDir)).adopted).toBe(false);
  });

  it('is a server that does not start, with the end of its log', async () => {
    const refusal = start(dataDir, { serverFlags: ['work_mem=plenty'] });
    await expect(refusal).rejects.toThrow(/^DATA_DIR: .*does not start.*"work_mem": "plenty"/);
  });

  it('is a file in the place of a directory', async () => {
    await writeFile(dataDir, '');
    await expect(start(dataDir)).rejects.toThrow(/^DATA_DIR: EEXIST/);
    await rm(dataDir);
    await mkdir(join(dataDir, 'postgres', 'mine'), { recursive: true });
    const { uid } = await stat(dataDir);
    await expect(start(dataDir)).rejects.toThrow(uid === 0 ? 'belong to root' : 'neither empty');
  });
});
