import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline/promises';
import { fileURLToPath } from 'node:url';
import type { World } from '../harness.ts';

/** A gateway in a process of its own, to be killed. */
export interface Victim {
  readonly url: string;
  /** Runs a GraphQL document. */
  graphql<T>(query: string, variables: object): Promise<T>;
  /** The next line it writes. */
  line(): Promise<string>;
  /** kill -9; resolves when the process is gone. */
  kill(): Promise<void>;
}

/** Starts a gateway in a process of its own; see `gateway-process.ts`. */
export async function startVictim(world: World, env: Record<string, string>): Promise<Victim> {
  const child: ChildProcess = spawn(
    process.execPath,
    [fileURLToPath(import.meta.resolve('./gateway-process.ts'))],
    {
      env: {
        DATABASE_URL: world.controlUrl,
        ENCRYPTION_KEY: world.encryptionKey,
        SHARED_TENANT_DATABASE: world.sharedDatabase,
        AUTH_MODE: 'open',
        PORT: '0',
        RATE_LIMIT_CREATIONS_PER_MINUTE: '0',
        RATE_LIMIT_BATCH_TENANTS_PER_MINUTE: '0',
        STANDBY_DATABASES: '0',
        STANDBY_SCHEMAS: '0',
        TAKEOVER_SECONDS: '1',
        ...env,
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  const gone = new Promise<void>((resolve) => void child.once('exit', () => resolve()));
  const lines = createInterface(child.stdout!)[Symbol.asyncIterator]();
  const line = async (): Promise<string> => {
    const next = await lines.next();
    if (next.done === true) throw new Error('the gateway process has ended');
    return next.value;
  };
  const url = await line();
  return {
    url,
    async graphql<T>(query: string, variables: object) {
      const answer = await fetch(`${url}/graphql`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ query, variables }),
      });
      return ((await answer.json()) as { data: T }).data;
    },
    line,
    async kill() {
      child.kill('SIGKILL');
      await gone;
    },
  };
}
