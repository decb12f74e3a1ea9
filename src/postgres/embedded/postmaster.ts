/** The server's main process (PostgreSQL calls it the postmaster): found, started, ended. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Account } from './account.ts';
import { ifThere, isAlive } from './files.ts';
import { codeOf } from '../error-codes.ts';

export interface Postmaster {
  readonly pid: number;
  readonly port: number;
  /** It is on its way down, and takes no more connections. */
  readonly stopping: boolean;
}

/** Signals in the order they are sent, each with how long it is given, in milliseconds. */
type Ending = readonly (readonly [signal: NodeJS.Signals, waitMs: number])[];

/** SIGINT ends sessions and writes everything out; SIGQUIT leaves that to the next start. */
export const politely: Ending = [
  ['SIGINT', 10_000],
  ['SIGQUIT', 10_000],
  ['SIGKILL', 5_000],
];

/** For a server that does not answer. On SIGQUIT, one that can gives its own processes 5 seconds. */
export const firmly: Ending = [
  ['SIGQUIT', 6_000],
  ['SIGKILL', 5_000],
];

/** All that the server is told of this process's environment: nothing. Secrets are in there. */
export const serverEnvironment = {
  PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin',
  LC_ALL: 'C',
  TZ: 'UTC',
};

const defaultMaxConnections = 300;

/**
 * Connections that no tenant's login can take, however many there are: some for the gateways, of few a
 * part.
 */
function reservedConnections(settings: readonly string[]): number {
  const name = 'max_connections=';
  const given = settings.findLast((setting) => setting.startsWith(name))?.slice(name.length);
  return Math.min(20, Math.floor(Number(given ?? defaultMaxConnections) / 4));
}

/** Above this size, in bytes, the log is put aside at the next start; one old one is kept. */
const maxLogSize = 10 * 1024 * 1024;

/**
 * The running server of a data directory; null when there is none. A lock file that would keep
 * PostgreSQL from starting although its process is gone is removed.
 *
 * @param directory the real path, as it was handed to `launch`
 */
export async function findPostmaster(directory: string): Promise<Postmaster | null> {
  const path = join(directory, 'postmaster.pid');
  let lines = await linesOf(path);
  if (lines !== null && !isComplete(lines)) {
    await sleep(500); // a server that is starting this instant writes it in one go
    lines = await linesOf(path);
  }
  if (lines === null) return null;

  // Source: PostgreSQL's miscadmin.h, LOCK_FILE_LINE_*: pid, directory, start, port, …, status.
  const pid = Number(lines[0]);
  if (isComplete(lines) && (await isPostmaster(pid, directory))) {
    return { pid, port: Number(lines[3]), stopping: lines[7]?.trim() === 'stopping' };
  }
  // PostgreSQL itself sees to the file of a dead process. It gives up on an empty one, and on one
  // whose process id is another process's by now. Should a server come up between the look and the
  // removal, PostgreSQL's second lock, on its shared memory, still keeps two servers apart.
  if (!isComplete(lines) || isAlive(pid)) await rm(path, { force: true });
  return null;
}

/** Tells whether this process is (still) the server of that data directory. */
export async function isPostmaster(pid: number, directory: string): Promise<boolean> {
  const [program, ...rest] = (await commandOf(pid)).split(' -D ');
  return program?.endsWith('/postgres') === true && rest.join(' -D ').startsWith(`${directory} `);
}

/**
 * Starts the server, and returns as soon as the process runs: it does not take connections yet, and
 * may still fail. `settings` are `name=value`, a later one of the same name wins.
 */
export async function launch(server: {
  readonly program: string;
  readonly directory: string;
  readonly account: Account;
  readonly port: number;
  readonly logFile: string;
  readonly settings: readonly string[];
}): Promise<Postmaster> {
  const size = (await ifThere(stat(server.logFile)))?.size ?? 0;
  if (size > maxLogSize) await rename(server.logFile, `${server.logFile}.1`);
  // Opened here and handed over: the server's user need not be able to reach it.
  const log = await open(server.logFile, 'a', 0o600);
  try {
    const settings = [
      'listen_addresses=127.0.0.1',
      `port=${server.port}`,
      'unix_socket_directories=',
      `max_connections=${defaultMaxConnections}`,
      `reserved_connections=${reservedConnections(server.settings)}`,
      'logging_collector=off',
      'log_destination=stderr',
      // A failed statement may hold a password, the detail of an error a tenant's row.
      'log_min_error_statement=panic',
      'log_error_verbosity=terse',
      ...server.settings,
    ];
    const child = spawn(
      server.program,
      ['-D', server.directory, ...settings.flatMap((setting) => ['-c', setting])],
      {
        ...server.account,
        cwd: '/', // this process's own may be closed to the server's user
        env: serverEnvironment,
        // A session of its own: Ctrl-C in the terminal is for the gateway, which still needs it.
        detached: true,
        stdio: ['ignore', log.fd, log.fd],
      },
    );
    await once(child, 'spawn'); // rejects with the error when there is no such program
    child.unref();
    if (child.pid === undefined) throw new Error('A process that was started has no id');
    return { pid: child.pid, port: server.port, stopping: false };
  } finally {
    await log.close();
  }
}

/**
 * Ends the server and waits until its process is gone. Every signal goes to a process that was
 * recognised as this directory's server just before: the id may be another's by now.
 *
 * @throws Error when it outlives all the signals
 */
export async function endPostmaster(
  { pid }: Postmaster,
  directory: string,
  ending: Ending,
): Promise<void> {
  for (const [signal, waitMs] of ending) {
    if (!(await isPostmaster(pid, directory))) return;
    try {
      process.kill(pid, signal);
    } catch (error) {
      if (codeOf(error) !== 'ESRCH') throw error;
    }
    const deadline = Date.now() + waitMs;
    while (Date.now() < deadline) {
      if (!(await isPostmaster(pid, directory))) return;
      await sleep(20);
    }
  }
  throw new Error(`The PostgreSQL server with process id ${pid} does not end`);
}

async function linesOf(path: string): Promise<string[] | null> {
  return (await ifThere(readFile(path, 'utf8')))?.split('\n') ?? null;
}

function isComplete(lines: readonly string[]): boolean {
  return lines.length > 4 && Number(lines[0]) > 0 && Number(lines[3]) > 0;
}

/** A process's command line; empty when it is gone, or a zombie. */
async function commandOf(pid: number): Promise<string> {
  if (process.platform === 'linux') {
    try {
      return (await readFile(`/proc/${pid}/cmdline`, 'utf8')).replaceAll('\0', ' ');
    } catch (error) {
      // ESRCH: it ended between the opening and the reading.
      if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ESRCH') return '';
      throw error;
    }
  }
  try {
    const { stdout } = await promisify(execFile)('ps', ['-ww', '-o', 'command=', '-p', `${pid}`]);
    return stdout;
  } catch {
    return ''; // ps exits 1 when there is no such process
  }
}
