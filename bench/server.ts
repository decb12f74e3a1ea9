import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import pino from 'pino';
import { startApp } from '../src/app.ts';
import { readConfig } from '../src/config.ts';
import { generateEncryptionKey } from '../src/crypto/envelope.ts';
import { startEmbedded } from '../src/postgres/embedded/server.ts';

/** A fresh embedded server for one run, and the gateways on it. */
export interface BenchServer {
  readonly client: pg.Client;
  /** Connection string of a database on it. */
  url(database: string): string;
  /** The settings of a gateway on the control plane of this name, which is made when it is not there. */
  settingsFor(
    control: string,
    settings?: Readonly<Record<string, string>>,
  ): Promise<Readonly<Record<string, string>>>;
  /** Runs `work` with a gateway on the control plane of this name, made when it is not there. */
  withGateway<T>(
    control: string,
    settings: Readonly<Record<string, string>>,
    work: (url: string) => Promise<T>,
  ): Promise<T>;
  /** The same with a gateway in a process of its own, which begins cold. */
  withGatewayProcess: BenchServer['withGateway'];
  close(): Promise<void>;
}

/**
 * Starts the server as the product does, fsync and all.
 *
 * @param serverFlags more of its settings, `name=value` each
 */
export async function openBenchServer(serverFlags: readonly string[] = []): Promise<BenchServer> {
  const dataDir = await mkdtemp(join(tmpdir(), 'tenantry-bench-'));
  // Root's server runs as another user: where it cannot pass, its files would be elsewhere, and stay.
  await chmod(dataDir, 0o711);
  const server = await startEmbedded({ dataDir, serverFlags });
  const client = new pg.Client(server.url);
  client.on('error', () => undefined);
  await client.connect();
  const encryptionKey = generateEncryptionKey();

  function url(database: string): string {
    const changed = new URL(server.url);
    changed.pathname = `/${database}`;
    return changed.href;
  }

  async function settingsFor(
    control: string,
    settings: Readonly<Record<string, string>> = {},
  ): Promise<Readonly<Record<string, string>>> {
    const { rowCount } = await client.query('SELECT FROM pg_database WHERE datname = $1', [
      control,
    ]);
    if (rowCount === 0) await client.query(`CREATE DATABASE "${control}"`);
    return {
      DATABASE_URL: url(control),
      ENCRYPTION_KEY: encryptionKey,
      AUTH_MODE: 'open',
      PORT: '0',
      RATE_LIMIT_CREATIONS_PER_MINUTE: '0',
      RATE_LIMIT_BATCH_TENANTS_PER_MINUTE: '0',
      SHARED_TENANT_DATABASE: `${control}_shared`,
      STANDBY_DATABASES: '0',
      STANDBY_SCHEMAS: '0',
      ...settings,
    };
  }

  return {
    client,
    url,
    settingsFor,

    async withGateway(control, settings, work) {
      const app = await startApp(readConfig(await settingsFor(control, settings), false), {
        log: pino({ level: 'silent' }),
      });
      try {
        return await work(app.url);
      } finally {
        await app.close();
      }
    },

    async withGatewayProcess(control, settings, work) {
      const gateway = child('./gateway-process.ts', await settingsFor(control, settings), []);
      try {
        return await work(await messageFrom<string>(gateway));
      } finally {
        await ended(gateway);
      }
    },

    async close() {
      await client.end();
      await server.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

/** Starts a file of this folder as a process of its own. */
export function child(
  file: string,
  settings: Readonly<Record<string, string>>,
  execArgv: string[],
): ChildProcess {
  const path = fileURLToPath(new URL(file, import.meta.url));
  const { HOME = '', PATH = '' } = process.env;
  return fork(path, { env: { HOME, PATH, ...settings }, execArgv });
}

/** Has such a process end by itself, as a gateway does when nobody is connected to it any more. */
export async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  if (child.connected) child.disconnect();
  await gone;
}

/** The next thing that such a process tells; rejects when it ends instead. */
export async function messageFrom<T>(from: ChildProcess, until?: AbortSignal): Promise<T> {
  const lost = new AbortController();
  const signal = until === undefined ? lost.signal : AbortSignal.any([until, lost.signal]);
  const exited = (): void => {
    lost.abort(new Error('the process has ended'));
  };
  from.once('exit', exited);
  try {
    const [message] = (await once(from, 'message', { signal })) as [T];
    return message;
  } finally {
    from.off('exit', exited);
  }
}

const mutation = `mutation ($input: CreateTenantInput!) {
  createTenant(input: $input) { tenant { id status } apiKey userErrors { message } }
}`;

/** `Mutation.createTenant` over HTTP; rejects unless the tenant is active. */
export async function createTenant(url: string, input: object): Promise<void> {
  const text = await postGraphQL(url, mutation, { input });
  if (!text.includes('"ACTIVE"')) throw new Error(`createTenant failed: ${text}`);
}

/** Runs a document over HTTP; the answer as it came. */
export async function postGraphQL(url: string, query: string, variables: object): Promise<string> {
  const response = await fetch(`${url}/graphql`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ query, variables }),
  });
  return response.text();
}

/** Waits until a control plane's pool of standbys is full and nobody fills it any more. */
export async function standbysReady(control: pg.Client, count: number): Promise<void> {
  for (;;) {
    const { rows } = await control.query<{ ready: number; keeping: boolean }>(
      `SELECT (SELECT count(*)::int FROM control_plane.standbys WHERE status = 'READY') AS ready,
              EXISTS (SELECT FROM control_plane.standby_keepers) AS keeping`,
    );
    if (rows[0]?.ready === count && !rows[0].keeping) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
