import { chmod } from 'node:fs/promises';
import { hostname } from 'node:os';
import { startEmbedded } from '../src/postgres/embedded/server.ts';
import { isAlive } from '../src/postgres/embedded/files.ts';
import { makeDirectory, removeDirectory, removeLeftovers } from './leftovers.ts';

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

async function openEmbedded(): Promise<TestServer> {
  await removeLeftovers();
  const dataDir = await makeDirectory();
  await chmod(dataDir, 0o711); // root's server runs as another user, who has to pass
  const server = await startEmbedded({
    dataDir,
    // Nobody needs these files after a crash, and several gateways share the server.
    serverFlags: ['fsync=off', 'full_page_writes=off', 'max_connections=400'],
  });
  return {
    url: server.url,
    async close() {
      await server.stop();
      await removeDirectory(dataDir);
    },
  };
}

const hostLabel = 'tenantry.test.host';
const pidLabel = 'tenantry.test.pid';

async function openContainer(): Promise<TestServer> {
  const { GenericContainer, getContainerRuntimeClient, Wait } = await import('testcontainers');
  const { container: engine } = await getContainerRuntimeClient();
  for (const { Id, Labels } of await engine.list()) {
    // A killed run's: testcontainers' own cleaner (Ryuk) does not run with every engine.
    if (Labels[hostLabel] !== hostname() || isAlive(Number(Labels[pidLabel]))) continue;
    await engine.getById(Id).remove({ force: true, v: true });
  }
  const password = 'postgres';
  const container = await new GenericContainer(process.env['TEST_POSTGRES_IMAGE'] ?? 'postgres:15')
    .withEnvironment({ POSTGRES_PASSWORD: password })
    .withLabels({ [hostLabel]: hostname(), [pidLabel]: String(process.pid) })
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
