import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { withLogin } from '../control-template.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { createBatch } from '../provisioning/batches.ts';
import { isolations } from '../provisioning/isolations.ts';
import { clusters, readiness, useSecondServer } from '../provisioning/second-server.ts';
import { connectionString, createTenant, makeTenant } from '../provisioning/tenants.ts';
import { expectNothingLeft } from '../provisioning/traces.ts';

// As PostgreSQL 15 has it: nothing is reserved for an admin that is no superuser.
const second = useSecondServer(['max_connections=40', 'reserved_connections=0']);
const freeAgain = { status: 200, check: 'ok' };
const noneFree = { status: 200, check: 'degraded: no connection is free' };

describe.each(['superuser', 'limited'] as const)('as %s', (admin) => {
  let world: World;
  let gateway: TestGateway;
  const taken: pg.Client[] = [];
  let tenants: readonly string[];

  beforeAll(async () => {
    world = await createWorld();
    const url = new URL(second.url);
    if (admin === 'limited') {
      await second.query(`CREATE ROLE adm LOGIN CREATEDB CREATEROLE PASSWORD 'known'`);
      await second.query('GRANT CONNECT ON DATABASE postgres TO adm');
      url.href = withLogin(second.url, 'adm', 'known');
    }
    gateway = await world.start({ settings: clusters({ name: 'small', url: url.href }) });
    const made = [];
    for (const index of [1, 2, 3, 4]) {
      const isolation = index % 2 === 0 ? 'SCHEMA' : 'DATABASE';
      made.push(await makeTenant(gateway, { name: `Greedy ${index}`, isolation }));
    }
    tenants = made.map(({ tenant }) => tenant.id);
  });
  afterEach(leave);
  afterAll(() => world.close());

  /** Each tenant connects until the server takes no more from it. */
  async function takeAll(): Promise<void> {
    for (const id of tenants) {
      const connection = await connectionString(world, id);
      for (;;) {
        const client = new pg.Client(connection);
        client.on('error', () => undefined);
        try {
          await client.connect();
        } catch (error) {
          expect(error).toMatchObject({ code: '53300' });
          break;
        }
        taken.push(client);
      }
    }
  }

  async function leave(): Promise<void> {
    await Promise.all(taken.splice(0).map((client) => client.end()));
  }

  test.each(isolations)(
    '$isolation: a creation without a connection fails within 10 s, is undone, and works later',
    async ({ isolation }) => {
      const before = (await second.made()).sort();
      await takeAll();
      const begun = Date.now();
      const { operation, userErrors } = await createTenant(gateway, { name: 'Late', isolation });
      expect(Date.now() - begun).toBeLessThan(10_000);
      expect(userErrors).toEqual([
        {
          code: 'UNAVAILABLE',
          message: expect.stringMatching(
            /^Step \w+ failed: the cluster has no connection free. Everything was undone.$/,
          ) as string,
          field: null,
        },
      ]);
      await expect.poll(() => readiness(gateway, 'small'), { timeout: 10_000 }).toEqual(noneFree);
      await expectNothingLeft(world, gateway, operation!.id);
      await leave();
      expect((await second.made()).sort()).toEqual(before);
      await makeTenant(gateway, { name: 'Late', isolation });
      await expect.poll(() => readiness(gateway, 'small'), { timeout: 15_000 }).toEqual(freeAgain);
    },
    60_000,
  );

  test('items of a batch and REST tell the same', async () => {
    await takeAll();
    const { batch } = await createBatch(gateway, {
      tenants: [{ name: 'One of two' }, { name: 'Two of two', isolation: 'SCHEMA' }],
    });
    const codes = batch!.results.map(({ userErrors }) => userErrors.map(({ code }) => code));
    expect(codes).toEqual([['UNAVAILABLE'], ['UNAVAILABLE']]);
    const { status, json } = await gateway.post('/api/v1/tenants', {
      name: 'by_rest',
      environment: 'production',
    });
    expect(status, JSON.stringify(json)).toBe(503);
  }, 60_000);

  test('the cluster stays up, and its sessions are opened again when they are lost', async () => {
    const sessions = () =>
      second.query<{ pid: number }>(
        `SELECT pid FROM pg_stat_activity WHERE application_name IN ('tenantry', 'tenantry watch')
           AND datname = 'postgres' AND pid <> pg_backend_pid()`,
      );
    const before = (await sessions()).map(({ pid }) => pid);
    expect(before.length).toBeGreaterThanOrEqual(3);
    for (const pid of before) await second.query(`SELECT pg_terminate_backend(${pid})`);
    const again = async (): Promise<boolean> => {
      const now = (await sessions()).map(({ pid }) => pid);
      return now.length >= 3 && now.every((pid) => !before.includes(pid));
    };
    await expect.poll(again, { timeout: 15_000 }).toBe(true);
    await takeAll();
    await expect.poll(() => readiness(gateway, 'small'), { timeout: 10_000 }).toEqual(noneFree);
    expect(gateway.logs()).not.toContain('cluster is down');
  }, 60_000);
});
