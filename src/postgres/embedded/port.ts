/** The default server's port: chosen once, because connection strings with it are kept elsewhere. */
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { rename, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { SettingError } from '../../errors.ts';
import { aside, textOf } from './files.ts';
import { codeOf } from '../error-codes.ts';

// Below the ephemeral ports of Linux and macOS: an outgoing connection could hold one of those.
const lowest = 20_000;
const highest = 32_000;

/**
 * The port in the file; null before there is a file.
 *
 * @throws SettingError when the file holds something else
 */
export async function keptPort(file: string): Promise<number | null> {
  const text = await textOf(file);
  if (text === null) return null;
  const port = Number(text);
  if (/^\d+$/.test(text) && port > 0 && port < 65_536) return port;
  throw new SettingError('DATA_DIR', `${file} should hold a port number`);
}

/** Writes the port of a server that came up, for the starts to come. */
export async function keepPort(file: string, port: number): Promise<void> {
  if ((await keptPort(file)) === port) return;
  await aside(file, async (temporary) => {
    await writeFile(temporary, `${port}\n`, { mode: 0o600, flag: 'wx' });
    await rename(temporary, file);
  });
}

/** A port on 127.0.0.1 that nothing listens on. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < 200; tries++) {
    const port = randomInt(lowest, highest + 1);
    if (await isFree(port)) return port;
  }
  throw new SettingError('DATA_DIR', `no port from ${lowest} to ${highest} is free on 127.0.0.1`);
}

/** Tells whether a server could listen on this port of 127.0.0.1. */
export async function isFree(port: number): Promise<boolean> {
  const listener = createServer();
  try {
    listener.listen({ host: '127.0.0.1', port, exclusive: true });
    await once(listener, 'listening');
  } catch (error) {
    if (codeOf(error) === 'EADDRINUSE') return false;
    throw error;
  }
  listener.close();
  await once(listener, 'close');
  return true;
}
