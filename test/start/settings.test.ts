import { once } from 'node:events';
import { chmod, mkdir, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { generateEncryptionKey } from '../../src/crypto/envelope.ts';
import { isRoot } from '../../src/postgres/embedded/account.ts';
import { freshDirectory } from '../postgres/embedded/world.ts';
import {
  createTenant,
  embeddedPid,
  endAll,
  freshDataDir,
  startAndEnd,
  startGateway,
  type Settings,
} from './gateway-process.ts';

afterEach(endAll);

/** Starts what cannot be started; the problems it names, one a line. */
async function problemsWith(settings: Settings): Promise<string[]> {
  const { code, stdout, stderr } = await startAndEnd(settings);
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  const lines = stderr.split('\n');
  expect(lines.pop()).toBe(''); // the last line ends, too
  return lines;
}

describe('a setting that is wrong is named in one line', () => {
  it('all at once, before anything is made', async () => {
    const DATA_DIR = await freshDataDir();
    const wrong = {
      PORT: 'http',
      HOST: '192.0.2.1',
      ENCRYPTION_KEY: 'my-secret',
      LOG_LEVEL: 'loud',
    };
    const problems = await problemsWith({ DATA_DIR, ...wrong });
    expect(problems.map((line) => line.split(':')[0]).sort()).toEqual(Object.keys(wrong).sort());
    expect(problems.join()).not.toContain('my-secret');
    await expect(rm(DATA_DIR)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('.env that cannot be read', async () => {
    const cwd = await freshDirectory(0o711);
    await mkdir(join(cwd, '.env'));
    const gateway = await startGateway({ settings: { DATA_DIR: await freshDataDir() }, cwd });
    const { code, stderr } = await gateway.ended();
    expect(code).toBe(1);
    expect(stderr).toMatch(/^\.env: cannot be read; .*\n$/);
  });

  it('PORT in use, and the embedded server ends again', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    const DATA_DIR = await freshDataDir();
    try {
      expect(await problemsWith({ DATA_DIR, PORT: String(port) })).toEqual([
        `PORT: ${port} is in use on 127.0.0.1; set another one, or 0 for any`,
      ]);
    } finally {
      other.close();
    }
    expect(await embeddedPid(DATA_DIR)).toBeNull();
  });

  it('DATA_DIR that is a file, or cannot be made or written', async () => {
    const parent = await freshDirectory(0o711);
    const file = join(parent, 'file');
    await writeFile(file, '');
    const closed = join(parent, 'closed');
    await mkdir(closed);
    await chmod(closed, 0o555);
    // Nothing is closed to root, but where nobody can write.
    const unwritable = isRoot() ? ['/sys/tenantry'] : [closed, join(closed, 'data')];
    for (const DATA_DIR of [file, join(file, 'data'), ...unwritable]) {
      expect(await problemsWith({ DATA_DIR })).toEqual([expect.stringMatching(/^DATA_DIR: .*/)]);
    }
  });

  it('ENCRYPTION_KEY that does not open what is stored', async () => {
    const DATA_DIR = await freshDataDir();
    const first = await startGateway({ settings: { DATA_DIR } });
    expect((await createTenant(await first.listening(), 'sealed')).status).toBe(201);
    first.signal('SIGTERM');
    await first.ended();

    const ENCRYPTION_KEY = generateEncryptionKey();
    const [problem, ...more] = await problemsWith({ DATA_DIR, ENCRYPTION_KEY });
    expect(problem).toMatch(/^ENCRYPTION_KEY: this key does not open .* ENCRYPTION_KEYS_PREVIOUS$/);
    expect(problem).not.toContain(ENCRYPTION_KEY);
    expect(more).toEqual([]);

    const file = join(DATA_DIR, 'encryption.key');
    await rm(file);
    const [lost] = await problemsWith({ DATA_DIR });
    expect(lost).toContain(`ENCRYPTION_KEY: the key in ${file} does not open`);
    expect(await embeddedPid(DATA_DIR)).toBeNull();
  });
});
