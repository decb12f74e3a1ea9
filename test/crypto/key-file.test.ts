import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { generateEncryptionKey, parseEncryptionKey } from '../../src/crypto/envelope.ts';
import { loadOrMakeKey } from '../../src/crypto/key-file.ts';
import { SettingError } from '../../src/errors.ts';

let folder: string;
let path: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tenantry-key-'));
  path = join(folder, 'encryption-key');
});

afterEach(() => rm(folder, { recursive: true }));

async function errorOf(promise: Promise<unknown>): Promise<SettingError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof SettingError) return error;
  throw new Error('expected a SettingError', { cause: error });
}

/** A process of its own that runs `work`, with `loadOrMakeKey` and `path`. */
function keyProcess(work: string) {
  const module = new URL('../../src/crypto/key-file.ts', import.meta.url).href;
  const script = `
    const { loadOrMakeKey } = await import(${JSON.stringify(module)});
    const path = process.argv[1];
    ${work}`;
  return spawn(process.execPath, ['--input-type=module', '-e', script, path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

describe('loadOrMakeKey', () => {
  it('makes a key once, for its owner alone', async () => {
    const key = await loadOrMakeKey(path);
    expect(parseEncryptionKey(key)).toHaveLength(32);
    expect(await loadOrMakeKey(path)).toBe(key);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await readdir(folder)).toEqual(['encryption-key']);
  });

  it('leaves a key that is there as it is', async () => {
    const key = generateEncryptionKey();
    await writeFile(path, `  ${key}=\n\n`);
    expect(await loadOrMakeKey(path)).toBe(`${key}=`);
    expect(await readFile(path, 'utf8')).toBe(`  ${key}=\n\n`);
  });

  it('gives one key to all who ask at once', async () => {
    const keys = await Promise.all(Array.from({ length: 50 }, () => loadOrMakeKey(path)));
    expect(new Set(keys).size).toBe(1);
    expect(await readdir(folder)).toEqual(['encryption-key']);
  });

  it('gives one key to all processes that start at once', async () => {
    const keys = await Promise.all(
      Array.from({ length: 5 }, async () =>
        text(keyProcess('process.stdout.write(await loadOrMakeKey(path));').stdout),
      ),
    );
    expect(new Set(keys)).toEqual(new Set([await loadOrMakeKey(path)]));
    expect(await readdir(folder)).toEqual(['encryption-key']);
  });

  it('leaves no half of a file when it is killed', async () => {
    for (let turn = 0; turn < 4; turn += 1) {
      const child = keyProcess('for (let i = 0; ; i += 1) await loadOrMakeKey(path + i);');
      const ended = once(child, 'exit');
      while ((await readdir(folder)).length < 20 * (turn + 1)) await sleep(5);
      child.kill('SIGKILL');
      await ended;
      const made = (await readdir(folder)).filter((name) => !name.includes('.new-'));
      for (const name of made) {
        const content = await readFile(join(folder, name), 'utf8');
        expect(parseEncryptionKey(content)).toHaveLength(32);
        expect(await loadOrMakeKey(join(folder, name))).toBe(content.trim());
      }
    }
  });

  it('goes by what is in place, not by what a killed process left next to it', async () => {
    await writeFile(`${path}.new-1-00000000`, 'half a k');
    expect(parseEncryptionKey(await loadOrMakeKey(path))).toHaveLength(32);
  });

  it.each([
    ['nothing', ''],
    ['something else', 'swordfish'],
    ['half a key', generateEncryptionKey().slice(0, 20)],
    ['two keys', `${generateEncryptionKey()}\n${generateEncryptionKey()}`],
  ])('refuses a file with %s: names it, not what is in it', async (_, content) => {
    await writeFile(path, content);
    const error = await errorOf(loadOrMakeKey(path));
    expect(error.setting).toBe('DATA_DIR');
    expect(error.message).toContain(path);
    for (const line of content.split('\n').filter((each) => each !== '')) {
      expect(error.message).not.toContain(line);
    }
    // What was sealed with the lost key is not given up by making another.
    expect(await readFile(path, 'utf8')).toBe(content);
  });

  it('names the file when its folder is missing', async () => {
    const missing = join(folder, 'none', 'key');
    const { message } = await errorOf(loadOrMakeKey(missing));
    expect(message).toContain(missing);
    expect(message).toContain('ENOENT');
  });

  it('names the file when something else is in its place', async () => {
    await mkdir(path);
    const { message } = await errorOf(loadOrMakeKey(path));
    expect(message).toContain(path);
    expect(message).toContain('EISDIR');
  });

  it.skipIf(process.getuid?.() === 0)('names the file when it may not be read', async () => {
    await writeFile(path, generateEncryptionKey());
    await chmod(path, 0);
    expect((await errorOf(loadOrMakeKey(path))).message).toContain('EACCES');
  });
});
