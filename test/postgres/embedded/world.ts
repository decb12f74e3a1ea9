/** Fresh directories, default servers in them, and gateways that can be killed. */
import { spawn } from 'node:child_process';
import type { SpawnOptions } from 'node:child_process';
import { once } from 'node:events';
import { chmod, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import pg from 'pg';
import { startEmbedded } from '../../../src/postgres/embedded/server.ts';
import type { EmbeddedOptions, EmbeddedServer } from '../../../src/postgres/embedded/server.ts';
import { guard, makeDirectory, removeDirectory } from '../../leftovers.ts';

/** Less work for the disk and the memory of the machine that tests. */
const serverFlags = ['fsync=off', 'shared_buffers=16MB', 'max_connections=20'];

const directories: string[] = [];
const servers: EmbeddedServer[] = [];
const gateways: (() => Promise<void>)[] = [];

/** A new directory of its own with this mode, gone after the test. */
export async function freshDirectory(mode: number): Promise<string> {
  const directory = await makeDirectory();
  directories.push(directory);
  await chmod(directory, mode);
  return directory;
}

/** `startEmbedded` with a small server that is stopped after the test. */
export async function start(
  dataDir: string,
  options: Partial<EmbeddedOptions> = {},
): Promise<EmbeddedServer> {
  const server = await startEmbedded({ dataDir, serverFlags, ...options });
  servers.push(server);
  return server;
}

export async function query(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  try {
    await client.connect();
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end().catch(() => undefined);
  }
}

export async function postmasterPid(dataDir: string): Promise<number> {
  return Number.parseInt(await readFile(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8'));
}

/** A process of its own that starts a default server and lives until it is killed. */
interface Gateway {
  readonly url: string;
  /** As by `kill -9`; resolves when it is gone. */
  kill(): Promise<void>;
}

const program = `
import { startEmbedded } from ${JSON.stringify(
  new URL('../../../src/postgres/embedded/server.ts', import.meta.url).href,
)};
const server = await startEmbedded(JSON.parse(process.argv[1]));
console.log(server.url);
setInterval(() => {}, 1_000_000);
`;

/** Resolves when its server is up. It can be killed before that, too. */
export function gateway(
  dataDir: string,
  options: SpawnOptions = {},
): Promise<Gateway> & { kill(): Promise<void> } {
  const child = spawn(
    process.execPath,
    ['--input-type=module', '--eval', program, JSON.stringify({ dataDir, serverFlags })],
    { ...options, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const guardian = child.pid === undefined ? null : guard(child.pid);
  const exit = once(child, 'exit').then(() => guardian?.kill('SIGKILL'));
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL');
    await exit;
  };
  gateways.push(kill);
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const up = (async () => {
    for await (const url of createInterface({ input: child.stdout })) return { url, kill };
    throw new Error(`The gateway ended: ${said}`);
  })();
  return Object.assign(up, { kill });
}

/** Ends everything that the test started, and removes its directories. */
export async function cleanUp(): Promise<void> {
  for (const kill of gateways.splice(0)) await kill();
  for (const server of servers.splice(0)) await server.stop();
  for (const directory of directories.splice(0)) {
    await removeDirectory(directory);
  }
}
