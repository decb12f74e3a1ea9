/** The gateway as its users start it: a process of its own, with these settings and none of ours. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { realpath } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { settingNames } from '../../src/config/settings.ts';
import { generateEncryptionKey } from '../../src/crypto/envelope.ts';
import { findPostmaster } from '../../src/postgres/embedded/postmaster.ts';
import { guard } from '../leftovers.ts';
import { cleanUp, freshDirectory } from '../postgres/embedded/world.ts';

export type Settings = Readonly<Record<string, string>>;

export interface GatewayProcess {
  /** Of the process that was spawned, and of its group: node, or npm. */
  readonly pid: number;
  /** Where it listens, as it says; rejects with all that it said when it ends before. */
  listening(): Promise<string>;
  /** Resolves when the process has ended and its output is closed. */
  ended(): Promise<Ended>;
  /** Types on its terminal. */
  type(text: string): void;
  /** To the process, as `kill` does; `group`: to all of its group, as a terminal's Ctrl-C does. */
  signal(name: NodeJS.Signals, to?: 'process' | 'group'): void;
  stdout(): string;
}

export interface Ended {
  /** Null: a signal ended it. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface StartOptions {
  readonly settings: Settings;
  /** Working directory of `node`; default: an empty one. */
  readonly cwd?: string;
  /** `npm`: by `npm start`; `terminal`: by that on a terminal; default: the process that this runs. */
  readonly by?: 'node' | 'npm' | 'terminal';
}

const project = resolve(import.meta.dirname, '../..');
/** A key for what is given by DATABASE_URL. */
const encryptionKey = generateEncryptionKey();

const commands = {
  node: [process.execPath, join(project, 'src/main.ts')],
  npm: ['npm', 'start'],
  terminal: ['script', '-qec', 'exec npm start', '/dev/null'],
} as const;
const noSettings = Object.fromEntries(settingNames.map((name) => [name, '']));

const running: GatewayProcess[] = [];

/** Starts a gateway on a free port. `endAll` ends it. */
export async function startGateway(options: StartOptions): Promise<GatewayProcess> {
  const { settings, by = 'node' } = options;
  const home = await freshDirectory(0o711);
  const env = {
    PATH: process.env['PATH'],
    HOME: home, // npm's cache and logs
    npm_config_update_notifier: 'false',
    PORT: '0',
    // What is made ahead would be in the way of whoever looks at what was made.
    STANDBY_DATABASES: '0',
    STANDBY_SCHEMAS: '0',
    ...settings,
  };
  const [program, ...args] = commands[by];
  const child = spawn(program, args, {
    detached: true, // a group of its own, which a Ctrl-C in our terminal does not reach
    ...(by === 'node'
      ? { cwd: options.cwd ?? home, env }
      : // An empty variable wins over the .env of whoever works on this.
        { cwd: project, env: { ...noSettings, ...env } }),
  });
  const { pid } = child;
  if (pid === undefined) throw new Error('The process could not be started');
  const guardian = guard(-pid);

  let stdout = '';
  let stderr = '';
  // A terminal ends its lines in its own way.
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text.replaceAll('\r', '');
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const ended = once(child, 'close').then(([code]): Ended => {
    guardian.kill('SIGKILL');
    return { code: code as number | null, stdout, stderr };
  });
  const gateway: GatewayProcess = {
    pid,
    ended: () => ended,
    stdout: () => stdout,
    type: (text) => void child.stdin.write(text),
    signal: (name, to) => process.kill(to === 'group' ? -pid : pid, name),
    async listening() {
      for (;;) {
        // Its last line is there, so all of the message is.
        const [, url] = /ready at (\S+)\n[^]*-d '.*'\n/.exec(stdout) ?? [];
        if (url !== undefined) return url;
        const end = await Promise.race([ended, once(child.stdout, 'data').then(() => null)]);
        if (end !== null) throw new Error(`It ended with ${String(end.code)}: ${stdout}${stderr}`);
      }
    },
  };
  running.push(gateway);
  return gateway;
}

/** Starts a gateway that is not to come up, and waits for its end. */
export async function startAndEnd(settings: Settings): Promise<Ended> {
  return (await startGateway({ settings })).ended();
}

/** A path for a DATA_DIR that is not there yet, and will be gone after the test. */
export async function freshDataDir(): Promise<string> {
  return join(await freshDirectory(0o711), 'data');
}

/** Settings for a server of one's own. */
export function onDatabase(url: string): Settings {
  return { DATABASE_URL: url, ENCRYPTION_KEY: encryptionKey, AUTH_MODE: 'open' };
}

/** Kills what still runs, whole groups and embedded servers, and removes their files. */
export async function endAll(): Promise<void> {
  for (const gateway of running.splice(0)) {
    try {
      gateway.signal('SIGKILL', 'group');
    } catch {
      // Nothing of the group is left.
    }
    await gateway.ended();
  }
  await cleanUp();
}

/** The process id of the embedded server of a DATA_DIR; null when none runs. */
export async function embeddedPid(dataDir: string): Promise<number | null> {
  const directory = await realpath(join(dataDir, 'postgres')).catch(() => null);
  return directory === null ? null : ((await findPostmaster(directory))?.pid ?? null);
}

/** POSTs contract A's body; the answer's status and JSON. */
export async function createTenant(
  url: string,
  name: string,
): Promise<{ status: number; json: unknown }> {
  const response = await fetch(`${url}/api/v1/tenants`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ name, environment: 'production' }),
  });
  return { status: response.status, json: await response.json() };
}
