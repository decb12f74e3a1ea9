import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from 'vitest';
import { onServer } from '../control-template.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { scriptFailpoints } from '../provisioning/failpoints.ts';
import { makeTenant } from '../provisioning/tenants.ts';

let world: World;
let gateway: TestGateway;
const failpoints = scriptFailpoints();

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({ failpoints });
});
afterAll(() => world.close());
afterEach(() => failpoints.clear());

interface Health {
  readonly status: string;
  readonly checks: Readonly<Record<string, string>>;
}

/** Asks until `/readyz` answers with this status. */
async function until(status: number, holds: (health: Health) => boolean = () => true) {
  for (;;) {
    const answer = await gateway.get('/readyz');
    const health = answer.json as Health;
    if (answer.status === status && holds(health)) return health;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const fine = {
  controlPlane: 'ok',
  migrations: 'ok',
  queue: 'ok',
  encryptionKey: 'ok',
  compensation: 'ok',
  'cluster:default': 'ok',
};

describe('GET /readyz', () => {
  test('200 when everything works', async () => {
    await makeTenant(gateway, { name: 'sample' });
    const answer = await gateway.get('/readyz');
    expect(answer.status).toBe(200);
    const { status, checks } = answer.json as Health;
    expect(status).toBe('ok');
    expect(checks).toMatchObject(fine);
    expect(new Set(Object.values(checks))).toEqual(new Set(['ok']));
  });

  test('503 while the control plane lets nobody in, 200 once it does again', async () => {
    const database = new URL(world.controlUrl).pathname.slice(1);
    const allow = (allowed: boolean): Promise<unknown> =>
      onServer(inject('serverUrl'), async (client) => {
        await client.query(`ALTER DATABASE ${database} ALLOW_CONNECTIONS ${String(allowed)}`);
        if (allowed) return;
        await client.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE datname = $1 AND application_name <> 'test'`,
          [database],
        );
      });
    await allow(false);
    try {
      const health = await until(503);
      expect(health).toMatchObject({
        status: 'unavailable',
        checks: { controlPlane: 'failed: does not work', queue: 'failed: does not work' },
      });
      expect((await gateway.get('/livez')).status).toBe(200);
      const answer = await gateway.post('/graphql', { query: '{ tenants { totalCount } }' });
      expect(answer).toMatchObject({
        status: 500,
        json: { errors: [{ extensions: { code: 'INTERNAL_SERVER_ERROR' } }] },
      });
    } finally {
      await allow(true);
    }
    const health = await until(200, ({ checks }) => checks['cluster:default'] === 'ok');
    expect(health.checks).toMatchObject(fine);
  });

  test('503 when the queue is gone', async () => {
    const rename = (from: string, to: string): Promise<unknown> =>
      world.query(`ALTER TABLE control_plane_jobs.${from} RENAME TO ${to}`);
    await rename('queue', 'elsewhere');
    try {
      const { checks } = await until(503);
      expect(checks).toMatchObject({ controlPlane: 'ok', queue: 'failed: does not work' });
    } finally {
      await rename('elsewhere', 'queue');
    }
    await until(200);
  });

  test('503 when the key does not open what is stored', async () => {
    const [kept] = await world.query<{ id: string; sealed: string }>(
      `SELECT tenant_id AS id, connection_string_encrypted AS sealed
       FROM control_plane.tenant_databases WHERE connection_string_encrypted IS NOT NULL`,
    );
    const store = (sealed: string): Promise<unknown> =>
      world.query(
        `UPDATE control_plane.tenant_databases SET connection_string_encrypted = $2
         WHERE tenant_id = $1`,
        [kept!.id, sealed],
      );
    await store(`${kept!.sealed.slice(0, -8)}AAAAAAAA`);
    const answer = await gateway.get('/readyz');
    await store(kept!.sealed);
    expect(answer.status).toBe(503);
    expect(answer.json).toMatchObject({
      status: 'unavailable',
      checks: { controlPlane: 'ok', encryptionKey: 'failed: does not work' },
    });
    expect(answer.text).not.toContain(kept!.sealed.slice(0, 12));
    expect((await gateway.get('/readyz')).status).toBe(200);
  });

  test('200 and degraded while something is being undone', async () => {
    failpoints.fail('create_database:before');
    const held = failpoints.hold('create_role:compensate');
    const accepted = await gateway.post(
      '/api/v1/tenants',
      { name: 'half', environment: 'staging' },
      { Prefer: 'respond-async' },
    );
    expect(accepted.status).toBe(202);
    await held.reached;
    const answer = await gateway.get('/readyz');
    expect(answer.status).toBe(200);
    expect(answer.json).toMatchObject({
      status: 'ok',
      checks: { compensation: expect.stringMatching(/^degraded: 1 /) as string },
    });
    held.release();
    failpoints.clear();
    await until(200, ({ checks }) => checks['compensation'] === 'ok');
  });
});

describe('GET /livez', () => {
  test('200: the process answers', async () => {
    const answer = await gateway.get('/livez');
    expect(answer).toMatchObject({ status: 200, json: { status: 'ok' } });
  });

  test.for(['/livez', '/readyz'])('HEAD %s: the same without a body', async (path) => {
    const response = await fetch(`${gateway.url}${path}`, { method: 'HEAD' });
    expect(response.status).toBe(200);
    expect(await response.text()).toBe('');
  });
});
