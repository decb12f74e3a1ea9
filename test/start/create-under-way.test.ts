import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findEmbeddedUrl } from '../../src/postgres/embedded/url.ts';
import { withDatabase } from '../control-template.ts';
import { query } from '../postgres/embedded/world.ts';
import {
  createTenant,
  embeddedPid,
  endAll,
  freshDataDir,
  startGateway,
  type GatewayProcess,
} from './gateway-process.ts';

let DATA_DIR: string;
beforeEach(async () => {
  DATA_DIR = await freshDataDir();
});
afterEach(endAll);

describe('a signal while a tenant is created', () => {
  it('waits for it, and the caller gets the answer', async () => {
    const gateway = await startGateway({ settings: { DATA_DIR } });
    const held = await holdCreation(gateway);
    const answer = createTenant(held.url, 'acme');
    await held.reached();
    gateway.signal('SIGTERM');
    await expect.poll(() => gateway.stdout(), { timeout: 10_000 }).toContain('SIGTERM');
    await held.release();
    expect(await answer).toMatchObject({ status: 201, json: { status: 'active' } });
    expect((await gateway.ended()).code).toBe(0);
    expect(await embeddedPid(DATA_DIR)).toBeNull();
  });

  it('hands back what does not end in time, and the next start brings it to its end', async () => {
    const settings = { DATA_DIR, SHUTDOWN_GRACE_SECONDS: '1' };
    const gateway = await startGateway({ settings });
    const held = await holdCreation(gateway);
    const answer = createTenant(held.url, 'acme').catch(() => null);
    await held.reached();
    gateway.signal('SIGTERM');
    expect((await gateway.ended()).code).toBe(0);
    expect(await embeddedPid(DATA_DIR)).toBeNull();
    expect((await answer)?.status).not.toBe(201);
    await held.release();

    const next = await startGateway({ settings });
    await next.listening();
    const server = await serverUrl();
    await expect
      .poll(() => query(server, 'SELECT status FROM control_plane.operations'), { timeout: 30_000 })
      .toEqual([{ status: 'SUCCEEDED' }]);
    const recorded = 'SELECT database_name AS name FROM control_plane.tenant_databases';
    const made = `SELECT datname AS name FROM pg_database WHERE datname <> ALL
      (SELECT database_name FROM control_plane.templates
       UNION VALUES ('postgres'), ('template0'), ('template1'), ('tenantry'))`;
    expect(await query(server, made)).toEqual(await query(server, recorded));
  });
});

/** Keeps creations from copying the template, as any session on it does. */
async function holdCreation(gateway: GatewayProcess) {
  const url = await gateway.listening();
  const server = await serverUrl();
  const [template] = await query(server, 'SELECT database_name FROM control_plane.templates');
  const name = String(template?.['database_name']);
  await query(server, `ALTER DATABASE ${name} ALLOW_CONNECTIONS true`);
  const session = new pg.Client(withDatabase(server, name));
  session.on('error', () => undefined); // the server may end before it
  await session.connect();
  const copying = `SELECT FROM pg_stat_activity
    WHERE state = 'active' AND query LIKE 'CREATE DATABASE%'`;
  return {
    url,
    reached: () => expect.poll(() => query(server, copying), { timeout: 10_000 }).toHaveLength(1),
    release: () => session.end().catch(() => undefined),
  };
}

async function serverUrl(): Promise<string> {
  const url = await findEmbeddedUrl(DATA_DIR);
  if (url === null) throw new Error('There is no server in DATA_DIR');
  return url;
}
