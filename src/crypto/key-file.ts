import { randomBytes } from 'node:crypto';
import { link, open, readFile, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { SettingError } from '../errors.ts';
import { generateEncryptionKey, parseEncryptionKey } from './envelope.ts';

/**
 * The key in a file, as text for `createKeyRing`. Where there is no file, one is made with a new key,
 * readable by its owner only (mode 0600). Processes that do so at once get the same key, and one that
 * is killed meanwhile leaves no half of a file there. The folder has to exist.
 *
 * @param path in DATA_DIR, which a SettingError therefore names
 * @throws SettingError when the file holds no key or cannot be read or made; never with its content
 */
export async function loadOrMakeKey(path: string): Promise<string> {
  try {
    return (await readKey(path)) ?? (await makeKey(path));
  } catch (error) {
    if (error instanceof SettingError) throw error;
    const reason = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
    const message = `the key file ${path} cannot be read or made (${reason})`;
    throw new SettingError('DATA_DIR', message, { cause: error });
  }
}

async function readKey(path: string): Promise<string | null> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  });
  if (text === null) return null;
  const key = text.trim();
  try {
    parseEncryptionKey(key);
  } catch {
    // Not replaced by a new key: what the lost one sealed would never open again.
    throw new SettingError(
      'DATA_DIR',
      `${path} holds no key (32 bytes in base64url); put the key back, or delete the file if nothing was made with it`,
    );
  }
  return key;
}

async function makeKey(path: string): Promise<string> {
  const temporary = `${path}.new-${process.pid}-${randomBytes(4).toString('hex')}`;
  const key = generateEncryptionKey();
  try {
    await writeDurably(temporary, `${key}\n`);
    // Unlike a rename, this never replaces the key of a process that was faster.
    await link(temporary, path);
    await syncFolder(dirname(path));
    return key;
  } catch (error) {
    const faster = await readKey(path);
    if (faster === null) throw error;
    return faster;
  } finally {
    await rm(temporary, { force: true });
  }
}

/** Down to the disk: what is sealed with a key that a power cut then takes away is lost. */
async function writeDurably(path: string, text: string): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
