import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startEmbedded } from '../src/postgres/embedded.ts';

/** A PostgreSQL server to test on. */
export interface TestServer {
  readonly url: string;
  close(): Promise<void>;
}

const kinds: Readonly<Record<string, () => Promise<TestServer>>> = {
  embedded: openEmbedded,
  container: openContainer,
  url: openGiven,
};

/** Opens the server that `TEST_POSTGRES` asks for: `embedded` (default), `container` or `url`. */
export function openTestServer(): Promise<TestServer> {
  const kind = process.env['TEST_POSTGRES'] ?? 'embedded';
  const open = kinds[kind];
  if (open === undefined) {
    throw new Error(`TEST_POSTGRES: ${kind} is none of ${Object.keys(kinds).join(', ')}`);
  }
  return open();
}

const prefix = 'tenantry-test-';

async function openEmbedded(): Promise<TestServer> {
  await removeLeftovers();
  const dataDir = await mkdtemp(join(tmpdir(), `${prefix}${process.pid}-`));
  const server = await startEmbedded({
    dataDir,
    // Nobody needs these files after a crash, and several gateways share the server.
    serverFlags: ['fsync=off', 'full_page_writes=off', 'max_connections=400'],
  });
  return {
    url: server.url,
    async close() {
      await server.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

/** Ends servers that runs which were killed left behind, and removes their files. */
async function removeLeftovers(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const pid = Number(/^tenantry-test-(\d+)-/.exec(name)?.[1]);
    if (Number.isNaN(pid) || isAlive(pid)) continue;
    const dataDir = join(tmpdir(), name);
    // Starting takes over what runs there, which is how it can be stopped.
    const server = await startEmbedded({ dataDir }).catch(() => null);
    await server?.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

async function openContainer(): Promise<TestServer> {
  const { GenericContainer, Wait } = await import('testcontainers');
  const password = 'postgres';
  const container = await new GenericContainer(process.env['TEST_POSTGRES_IMAGE'] ?? 'postgres:15')
    .withEnvironment({ POSTGRES_PASSWORD: password })
    .withCommand(['postgres', '-c', 'fsync=off', '-c', 'max_connections=400'])
    .withExposedPorts(5432)
    // Once for the server that initialises, once for the one that stays.
    .withWaitStrategy(Wait.forLogMessage(/database system is ready to accept connections/, 2))
    .start();
  const address = `${container.getHost()}:${container.getMappedPort(5432)}`;
  return {
    url: `postgres://postgres:${password}@${address}/postgres`,
    async close() {
      await container.stop();
    },
  };
}

function openGiven(): Promise<TestServer> {
  const url = process.env['TEST_DATABASE_URL'];
  if (url === undefined) {
    throw new Error(
      'TEST_DATABASE_URL: TEST_POSTGRES=url needs the connection string of a superuser',
    );
  }
  return Promise.resolve({ url, close: () => Promise.resolve() });
}
