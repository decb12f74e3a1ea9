/** A PostgreSQL server of its own, and gateways on it that are processes to be killed. */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { generateEncryptionKey } from '../../src/crypto/envelope.ts';
import { isAlive } from '../../src/postgres/embedded/files.ts';
import { startEmbedded } from '../../src/postgres/embedded/server.ts';
import { freshDirectory, postmasterPid } from '../postgres/embedded/world.ts';
import {
  endAll,
  startGateway,
  type GatewayProcess,
  type Settings,
} from '../start/gateway-process.ts';
import { createEndState } from './end-state.ts';

export type { Settings };

export interface Gateway extends GatewayProcess {
  readonly url: string;
  /** Resolves once its log says that this failpoint was reached so often. */
  reached(point: string, times?: number): Promise<void>;
  /** As by kill -9; resolves when it is gone. */
  kill(): Promise<void>;
  /** SIGTERM; resolves with its exit code. */
  stop(): Promise<number | null>;
}

export type World = Awaited<ReturnType<typeof openWorld>>;

/** What a request for a tenant came to; null: no answer, the gateway or the connection was gone. */
export interface Answer {
  readonly tenant: { readonly id: string; readonly status: string; readonly slug: string } | null;
  readonly operation: { readonly id: string; readonly status: string } | null;
  readonly apiKey: string | null;
  readonly userErrors: readonly { readonly code: string; readonly message: string }[];
}

const document = `mutation ($input: CreateTenantInput!) { createTenant(input: $input) {
  tenant { id status slug } operation { id status } apiKey userErrors { code message } } }`;

/** Starts the server; `close` ends everything. */
export async function openWorld() {
  const dataDir = await freshDirectory(0o711);
  const serverFlags = ['fsync=off', 'shared_buffers=32MB', 'max_connections=120'];
  const log = (): void => undefined;
  let server = await startEmbedded({ dataDir, serverFlags, log });
  const { url } = server;
  const encryptionKey = generateEncryptionKey();
  const sharedDatabase = 'tenants_shared';
  const endState = createEndState({
    controlUrl: url,
    serverUrl: url,
    sharedDatabase,
    encryptionKey,
  });

  return {
    url,
    encryptionKey,
    settle: endState.settle,
    rows: endState.rows,

    /** Starts a gateway process, and waits until it listens. */
    async start(settings: Settings = {}): Promise<Gateway> {
      const gateway = await startGateway({
        settings: {
          DATABASE_URL: url,
          ENCRYPTION_KEY: encryptionKey,
          SHARED_TENANT_DATABASE: sharedDatabase,
          AUTH_MODE: 'open',
          RATE_LIMIT_CREATIONS_PER_MINUTE: '0',
          RATE_LIMIT_BATCH_TENANTS_PER_MINUTE: '0',
          TAKEOVER_SECONDS: '2',
          SCHEMA_CREATION_TIMEOUT: '25',
          RECONCILE_INTERVAL_SECONDS: '2',
          RECONCILE_GRACE_SECONDS: '3',
          SHUTDOWN_GRACE_SECONDS: '5',
          LOG_FORMAT: 'json',
          ...settings,
        },
      });
      const address = await gateway.listening();
      return {
        ...gateway,
        url: address,
        async reached(point, times = 1) {
          const giveUpAt = Date.now() + 30_000;
          const line = new RegExp(
            `"point":"${point}","action":"[a-z-]+","msg":"failpoint reached"`,
            'g',
          );
          while ((gateway.stdout().match(line)?.length ?? 0) < times) {
            if (Date.now() > giveUpAt) throw new Error(`nothing came to ${point}`);
            await sleep(20);
          }
        },
        async kill() {
          gateway.signal('SIGKILL');
          await gateway.ended();
        },
        async stop() {
          gateway.signal('SIGTERM');
          return (await gateway.ended()).code;
        },
      };
    },

    /** Stops the server and starts it again: `fast` ends sessions, `immediate` is as a crash. */
    async restart(mode: 'fast' | 'immediate'): Promise<void> {
      if (mode === 'immediate') {
        const pid = await postmasterPid(dataDir);
        process.kill(pid, 'SIGQUIT');
        while (isAlive(pid)) await sleep(20);
      }
      await server.stop();
      server = await startEmbedded({ dataDir, serverFlags, log });
    },

    async close(): Promise<void> {
      await endAll();
      await server.stop();
    },
  };
}

/** What a request for a batch came to. */
export interface BatchAnswer {
  readonly batch: {
    readonly status: string;
    readonly results: readonly {
      readonly tenant: { readonly id: string } | null;
      readonly apiKey: string | null;
    }[];
  } | null;
}

const batchDocument = `mutation ($input: CreateTenantsBatchInput!) { createTenantsBatch(input: $input) {
  batch { id status summary { successful failed } results { tenant { id } apiKey } }
  userErrors { code message } } }`;

/** `Mutation.createTenant`. */
export async function create(
  gateway: Pick<Gateway, 'url'>,
  input: object,
  signal?: AbortSignal,
): Promise<Answer | null> {
  return (
    (await mutate<{ createTenant: Answer | null }>(gateway, document, input, signal))
      ?.createTenant ?? null
  );
}

/** `Mutation.createTenantsBatch`. */
export async function createBatch(
  gateway: Pick<Gateway, 'url'>,
  input: object,
): Promise<BatchAnswer | null> {
  return (
    (await mutate<{ createTenantsBatch: BatchAnswer | null }>(gateway, batchDocument, input))
      ?.createTenantsBatch ?? null
  );
}

async function mutate<T>(
  { url }: Pick<Gateway, 'url'>,
  query: string,
  input: object,
  signal?: AbortSignal,
): Promise<T | null> {
  try {
    const response = await fetch(`${url}/graphql`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ query, variables: { input } }),
      ...(signal === undefined ? {} : { signal }),
    });
    const { data } = (await response.json()) as { data?: T };
    return data ?? null;
  } catch {
    return null;
  }
}

/** Waits for the end of a process that ends by itself. */
export async function gone(gateway: Gateway): Promise<void> {
  await Promise.race([
    gateway.ended(),
    once(AbortSignal.timeout(30_000), 'abort').then(() => {
      throw new Error('it goes on');
    }),
  ]);
}
