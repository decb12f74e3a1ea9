import { execFile, spawnSync } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import { isRoot } from '../../src/postgres/embedded/account.ts';
import { freshDirectory } from '../postgres/embedded/world.ts';
import { createTenant, endAll, freshDataDir, startGateway } from './gateway-process.ts';

afterEach(endAll);

const run = promisify(execFile);
const has = (program: string): boolean =>
  spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;

describe('with nothing set', () => {
  it('listens, shows one command that creates a tenant, and comes back with it', async () => {
    const DATA_DIR = await freshDataDir();
    const first = await startGateway({ settings: { DATA_DIR } });
    const url = await first.listening();

    const message = first.stdout();
    expect(message).toContain(`ready at ${url}\n`);
    expect(message).toContain(`${url}/graphql`);
    expect(message).toContain(`${url}/docs`);
    expect(message).toContain(DATA_DIR);
    // Log lines are for programs where there is no terminal; there is nothing to tell yet.
    expect(message).not.toContain('{"level"');
    const command = /curl [^]*/.exec(message)?.[0] ?? '';
    if (has('curl')) {
      const { stdout } = await run('sh', ['-c', command]);
      expect(JSON.parse(stdout)).toMatchObject({ name: 'acme_corp', status: 'active' });
    } else {
      expect((await createTenant(url, 'acme_corp')).status).toBe(201);
    }

    expect((await fetch(`${url}/graphql`, { headers: { Accept: 'text/html' } })).status).toBe(200);
    expect((await fetch(`${url}/docs`)).status).toBe(200);
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
    for (const line of first.stdout().slice(message.length).trim().split('\n')) {
      expect(JSON.parse(line)).toMatchObject({ level: expect.any(Number) as number });
    }
    const key = await stat(join(DATA_DIR, 'encryption.key'));
    expect(key.mode & 0o777).toBe(0o600);
    first.signal('SIGTERM');
    expect(await first.ended()).toMatchObject({ code: 0, stderr: '' });

    const second = await startGateway({ settings: { DATA_DIR } });
    expect((await createTenant(await second.listening(), 'acme_corp')).status).toBe(400);
  });

  it.runIf(isRoot())('works as root where others cannot enter', async () => {
    const DATA_DIR = join(await freshDirectory(0o700), 'data');
    const gateway = await startGateway({ settings: { DATA_DIR } });
    expect((await createTenant(await gateway.listening(), 'acme_corp')).status).toBe(201);
  });
});

describe.runIf(process.platform === 'linux' && has('script'))('on a terminal', () => {
  it('logs for people, and Ctrl-C ends it', async () => {
    const settings = { DATA_DIR: await freshDataDir() };
    const gateway = await startGateway({ settings, by: 'terminal' });
    const url = await gateway.listening();
    await createTenant(url, 'acme_corp');
    gateway.type('\u0003');
    const { code, stdout } = await gateway.ended();
    expect(code).toBe(0);
    expect(stdout).toMatch(/INFO.*: .*request/);
    expect(stdout).not.toContain('{"level"');
  });
});
