/**
 * The default server: a real PostgreSQL in DATA_DIR, for a start with nothing configured.
 *
 * It outlives a gateway that is killed, and the next start takes it over (`adopted`). Everything an
 * operator has to know or do comes as one line, through `log` or in a `SettingError`.
 */
import { readFile, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { SettingError } from '../../errors.ts';
import { findBinaries } from './binaries.ts';
import { claimServer } from './claim.ts';
import type { Claim, Taken } from './claim.ts';
import { ifThere, removeLeftovers } from './files.ts';
import { linkHome, openHome } from './home.ts';
import type { Home } from './home.ts';
import { initialise, keepPassword, superuser } from './initdb.ts';
import { freePort, isFree, keepPort, keptPort } from './port.ts';
import { endPostmaster, findPostmaster, firmly, launch, politely } from './postmaster.ts';
import type { Postmaster } from './postmaster.ts';
import { serverUrl, waitUntilReady } from './session.ts';
import type { Readiness } from './session.ts';
import { codeOf } from '../error-codes.ts';

/** A running default server, claimed by this process: no other gateway can use it. */
export interface EmbeddedServer {
  /**
   * Connection string of the server's superuser to the database `tenantry`:
   * `postgres://tenantry:<password>@127.0.0.1:<port>/tenantry`. The same after every restart.
   */
  readonly url: string;
  /** A server that a killed run left behind was found, and is used. */
  readonly adopted: boolean;
  /**
   * Ends all sessions, shuts the server down and waits until its process is gone (10 seconds, then
   * it is made to quit, which costs a recovery at the next start). May be called again: the same
   * promise comes back. Without it, the server stays, and the next start takes it over.
   *
   * @throws Error when the process cannot be ended
   */
  stop(): Promise<void>;
}

export interface EmbeddedOptions {
  /** DATA_DIR, absolute or relative to the working directory; made when there is none. */
  readonly dataDir: string;
  /** More server settings, `name=value` each (`fsync=off`). They win over the built-in ones. */
  readonly serverFlags?: readonly string[];
  /** Is called with what the operator should know, a line without its end each time. */
  readonly log?: (line: string) => void;
  /** The port instead of the kept or a free one, from now on. A server that runs keeps its own. */
  readonly port?: number;
  /** Breaks the start off: it rejects with the signal's reason, and leaves no server running. */
  readonly signal?: AbortSignal;
}

/**
 * Starts the default server of a DATA_DIR, or takes over the one a killed run left there, and waits
 * until it can be used. The server does not keep this process alive.
 *
 * @throws SettingError (DATA_DIR) for everything an operator can change: another gateway uses the
 * directory, its files belong to another user, its port is taken, the disk is full, …
 * @example
 * const server = await startEmbedded({ dataDir: '.data', log: console.log });
 * // … new pg.Pool({ connectionString: server.url })
 * await server.stop();
 */
export async function startEmbedded(options: EmbeddedOptions): Promise<EmbeddedServer> {
  try {
    return await start(options);
  } catch (error) {
    throw asSettingError(error);
  }
}

/** How long a server may go without an answer, in milliseconds. */
const silenceMs = { found: 5_000, launched: 30_000 };

/** Another gateway may stop the server, or start one, between any two steps: then all begins anew. */
const maxAttempts = 5;

async function start(options: EmbeddedOptions): Promise<EmbeddedServer> {
  const { log = () => {}, signal } = options;
  const home = await openHome(options.dataDir, log);
  for (const made of [home.directory, home.passwordFile, home.portFile]) {
    await removeLeftovers(made);
  }
  const binaries = await findBinaries(home.account);
  const password = await keepPassword(home);
  await initialise(home, binaries.initdb, password);
  await linkHome(home);

  const logSize = (await ifThere(stat(home.logFile)))?.size ?? 0;
  for (let attempt = 1; attempt <= maxAttempts; attempt++) {
    signal?.throwIfAborted();
    const found = await findPostmaster(home.directory);
    if (found?.stopping === true) {
      await endPostmaster(found, home.directory, politely);
      continue;
    }
    const server = found ?? (await launchIn(home, binaries.postgres, options));
    if (server === null) continue;

    const readiness = await readinessOf(server, home, password, found === null, signal);
    switch (readiness) {
      case 'ready':
        break;
      case 'gone':
        // Processes of a killed server need a moment to notice; until then no other can start.
        if (found === null) await sleep(300);
        continue;
      case 'silent':
        log(`The PostgreSQL server with process id ${server.pid} does not answer; it is ended`);
        await endPostmaster(server, home.directory, firmly);
        if (found === null) throw await notStarting(home, logSize);
        continue;
      case 'recovering':
        throw new SettingError(
          'DATA_DIR',
          `the server in ${home.directory} is still recovering from a crash, and goes on with it; see ${home.logFile}, and start again later`,
        );
    }

    const url = serverUrl(server.port, password, superuser);
    const claim = await claimServer(url);
    if (claim === 'gone') continue;
    // It stays up even if it was launched here: the other gateway has it, and will stop it.
    if ('holder' in claim) throw inUse(home, claim);
    const embedded = running(url, found !== null, claim, () =>
      endPostmaster(server, home.directory, politely),
    );
    try {
      await keepPort(home.portFile, server.port);
      signal?.throwIfAborted();
    } catch (error) {
      await embedded.stop();
      throw error;
    }
    return embedded;
  }
  throw await notStarting(home, logSize);
}

async function readinessOf(
  server: Postmaster,
  home: Home,
  password: string,
  launched: boolean,
  signal: AbortSignal | undefined,
): Promise<Readiness> {
  try {
    const patience = launched ? silenceMs.launched : silenceMs.found;
    return await waitUntilReady(server, home, password, patience, signal);
  } catch (error) {
    // Nobody can use it, so nobody else will stop it.
    if (launched) await endPostmaster(server, home.directory, politely);
    throw error;
  }
}

/** Null when a server of this directory came up meanwhile. */
async function launchIn(
  home: Home,
  program: string,
  { port: wanted, serverFlags = [] }: EmbeddedOptions,
): Promise<Postmaster | null> {
  const port = wanted ?? (await keptPort(home.portFile)) ?? (await freePort());
  if (await staysTaken(port)) {
    if ((await findPostmaster(home.directory)) !== null) return null;
    throw new SettingError(
      'DATA_DIR',
      `port ${port} of 127.0.0.1, which ${home.portFile} keeps for the server, is taken by another process; stop that process (deleting the file chooses another port, and breaks the stored connection strings of tenants)`,
    );
  }
  const { directory, account, logFile } = home;
  return launch({ program, directory, account, port, logFile, settings: serverFlags });
}

/** Whether a port is taken for longer than by somebody who only looks whether it is free. */
async function staysTaken(port: number): Promise<boolean> {
  for (let looks = 1; looks <= 4; looks += 1) {
    if (await isFree(port)) return false;
    await sleep(250);
  }
  return true;
}

function running(
  url: string,
  adopted: boolean,
  claim: Claim,
  end: () => Promise<void>,
): EmbeddedServer {
  let stopped: Promise<void> | undefined;
  const stopOnce = async (): Promise<void> => {
    try {
      if (await claim.isOurs()) await end();
    } finally {
      await claim.release();
    }
  };
  return { url, adopted, stop: () => (stopped ??= stopOnce()) };
}

function inUse(home: Home, { holder }: Taken): SettingError {
  const which = holder === null ? '' : ` (process id ${holder})`;
  return new SettingError(
    'DATA_DIR',
    `${home.dataDir} is in use by another running gateway${which}; stop that one, set another DATA_DIR, or let both share a server with DATABASE_URL`,
  );
}

/** With the last lines of the log; `from` is its size in bytes before the first attempt. */
async function notStarting(home: Home, from: number): Promise<SettingError> {
  const log = (await ifThere(readFile(home.logFile))) ?? Buffer.of();
  // A log that is shorter now was put aside, and begun anew.
  const text = log
    .subarray(from > log.length ? 0 : from)
    .toString('utf8')
    .trim();
  const said = text === '' ? '(nothing)' : text.split('\n').slice(-4).join('; ');
  return new SettingError(
    'DATA_DIR',
    `the server in ${home.directory} does not start; the end of ${home.logFile}: ${said}`,
  );
}

/** What the operating system refuses (rights, a full or read-only disk) is the operator's to mend. */
function asSettingError(error: unknown): unknown {
  if (error instanceof SettingError || !(error instanceof Error && 'syscall' in error))
    return error;
  return new SettingError('DATA_DIR', `${error.message}${adviceOn(error.syscall, codeOf(error))}`, {
    cause: error,
  });
}

function adviceOn(syscall: unknown, code: string | undefined): string {
  if (code === 'EACCES' || code === 'EPERM') {
    return "; if the files are another user's, start as that user or set another DATA_DIR";
  }
  if (String(syscall).startsWith('spawn')) {
    return '; the programs that come with Tenantry do not run on this system: set DATABASE_URL';
  }
  return '';
}
