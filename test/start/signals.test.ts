import { randomBytes } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, inject, it } from 'vitest';
import { onServer, withDatabase } from '../control-template.ts';
import {
  createTenant,
  embeddedPid,
  endAll,
  freshDataDir,
  onDatabase,
  startGateway,
} from './gateway-process.ts';

afterEach(endAll);

describe('a gateway with the embedded server', () => {
  it.each([
    { signal: 'SIGTERM', to: 'process' },
    { signal: 'SIGINT', to: 'group' }, // as Ctrl-C in a terminal
  ] as const)(
    'ends with all that npm start started on $signal to the $to',
    async ({ signal, to }) => {
      const DATA_DIR = await freshDataDir();
      const gateway = await startGateway({ settings: { DATA_DIR }, by: 'npm' });
      await gateway.listening();
      expect(gateway.stdout()).toMatch(/^\n> tenantry@\S+ start\n> exec node \S+\n\n\nTenantry is/);
      expect(await embeddedPid(DATA_DIR)).not.toBeNull();
      gateway.signal(signal, to);
      expect(await gateway.ended()).toMatchObject({ code: 0, stderr: '' });
      expect(await embeddedPid(DATA_DIR)).toBeNull();
    },
  );

  // Each file is a moment of the start: initdb runs, the server comes up, the tables are there.
  it.each(['postgres.new-', 'postgres/postmaster.pid', 'encryption.key'])(
    'that is ended during its first start, at %s, leaves no server, and starts again',
    async (file) => {
      const DATA_DIR = await freshDataDir();
      const gateway = await startGateway({ settings: { DATA_DIR } });
      while (!(await isThere(DATA_DIR, file))) await sleep(1);
      gateway.signal('SIGTERM');
      const { code, stdout, stderr } = await gateway.ended();
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(stdout).toContain('SIGTERM');
      expect(await embeddedPid(DATA_DIR)).toBeNull();
      expect(await isThere(DATA_DIR, 'postgres.new-')).toBe(false);

      const next = await startGateway({ settings: { DATA_DIR } });
      expect((await createTenant(await next.listening(), 'acme')).status).toBe(201);
    },
  );
});

async function isThere(dataDir: string, prefix: string): Promise<boolean> {
  const [folder, name] = prefix.includes('/') ? prefix.split('/') : ['.', prefix];
  const names = await readdir(join(dataDir, folder!)).catch(() => []);
  return names.some((entry) => entry.startsWith(name!));
}

describe('a gateway that waits for another one', () => {
  const serverUrl = inject('serverUrl');
  const database = `test_start_${randomBytes(6).toString('hex')}`;
  const url = withDatabase(serverUrl, database);
  beforeAll(() => onServer(serverUrl, (client) => client.query(`CREATE DATABASE ${database}`)));
  afterAll(() =>
    onServer(serverUrl, (client) => client.query(`DROP DATABASE ${database} WITH (FORCE)`)),
  );

  it('to migrate, ends at once', async () => {
    await onServer(url, async (other) => {
      await other.query('BEGIN; CREATE SCHEMA control_plane'); // and never ends
      const gateway = await startGateway({ settings: onDatabase(url) });
      await onServer(serverUrl, async (client) => {
        const waiting = `SELECT FROM pg_stat_activity
          WHERE datname = '${database}' AND wait_event_type = 'Lock'`;
        await expect
          .poll(async () => (await client.query(waiting)).rowCount, { timeout: 30_000 })
          .toBe(1);
      });
      gateway.signal('SIGTERM');
      expect(await gateway.ended()).toMatchObject({ code: 0, stderr: '' });
    });
  });
});
