import { afterAll, beforeAll } from 'vitest';
import { withDatabase } from '../control-template.ts';
import { cleanUp, freshDirectory, query, start } from '../postgres/embedded/world.ts';
import type { TestGateway, World } from '../harness.ts';

/** A server beside that of the control plane, which a test can stop and start again. */
export interface SecondServer {
  /** Its superuser's connection string to `postgres`; the same after every start. */
  readonly url: string;
  stop(): Promise<void>;
  start(): Promise<void>;
  query<T = Record<string, unknown>>(sql: string): Promise<T[]>;
  /** What is there of tenants: databases and roles that carry a tenant's marker. */
  made(): Promise<string[]>;
}

/**
 * Starts one for the test file, and removes it afterwards.
 *
 * @param settings of the server, `name=value` each
 */
export function useSecondServer(settings: readonly string[] = []): SecondServer {
  let dataDir: string;
  let url: string;
  let running: Awaited<ReturnType<typeof start>>;
  const serverFlags = ['fsync=off', 'shared_buffers=16MB', 'max_connections=60', ...settings];
  const server: SecondServer = {
    get url() {
      return url;
    },
    stop: () => running.stop(),
    async start() {
      running = await start(dataDir, { serverFlags });
      url = withDatabase(running.url, 'postgres');
    },
    query: (sql) => query(url, sql) as Promise<never[]>,
    async made() {
      const rows = await server.query<{ name: string }>(
        `SELECT datname AS name FROM pg_database
         WHERE shobj_description(oid, 'pg_database') LIKE '%:tenant:%' OR datname LIKE 'car%'
         UNION ALL SELECT rolname FROM pg_roles
         WHERE shobj_description(oid, 'pg_authid') LIKE '%:tenant:%' OR rolname ~ '^(own|usr)_'`,
      );
      return rows.map(({ name }) => name);
    },
  };
  beforeAll(async () => {
    dataDir = await freshDirectory(0o711);
    await server.start();
  });
  afterAll(cleanUp);
  return server;
}

/** `CLUSTERS` for a list. */
export function clusters(...list: readonly object[]): { readonly CLUSTERS: string } {
  return { CLUSTERS: JSON.stringify(list) };
}

/** Which cluster a tenant was placed on, as the registry has it. */
export async function clusterOf(world: World, tenantId: string): Promise<string | undefined> {
  const [row] = await world.query<{ cluster: string }>(
    'SELECT cluster FROM control_plane.tenant_databases WHERE tenant_id = $1',
    [tenantId],
  );
  return row?.cluster;
}

/** What `/readyz` says of a cluster. */
export async function readiness(gateway: TestGateway, cluster: string) {
  const { status, json } = await gateway.get('/readyz');
  const { checks } = json as { checks: Record<string, string> };
  return { status, check: checks[`cluster:${cluster}`] };
}
