import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createWorld, type World } from '../harness.ts';
import {
  createTenant,
  endAll,
  startAndEnd,
  startGateway,
  type GatewayProcess,
  type Settings,
} from './gateway-process.ts';

let world: World;
let settings: Settings;
let urls: readonly [string, string];
let gateways: readonly [GatewayProcess, GatewayProcess];

describe('npm start twice, with one DATABASE_URL', () => {
  beforeAll(async () => {
    world = await createWorld({ admin: 'limited' });
    settings = {
      DATABASE_URL: world.controlUrl,
      ENCRYPTION_KEY: world.encryptionKey,
      SHARED_TENANT_DATABASE: world.sharedDatabase,
      AUTH_MODE: 'open',
      TAKEOVER_SECONDS: '2',
      RATE_LIMIT_CREATIONS_PER_MINUTE: '3',
      RATE_LIMIT_BATCH_TENANTS_PER_MINUTE: '0',
      BATCH_CONCURRENCY: '1',
      RECONCILE_INTERVAL_SECONDS: '2',
    };
    gateways = await Promise.all([
      startGateway({ by: 'npm', settings }),
      startGateway({ by: 'npm', settings }),
    ]);
    urls = [await gateways[0].listening(), await gateways[1].listening()];
  });
  afterAll(async () => {
    await endAll();
    await world.close();
  });

  it('counts creations over both', async () => {
    const [one, other] = urls;
    const answers = [];
    for (const [index, url] of [one, other, one, other].entries()) {
      answers.push(await createTenant(url, `counted_${index}`));
    }
    expect(answers.map(({ status }) => status)).toEqual([201, 201, 201, 429]);
  });

  it('shows the progress of the one in the other, to the last event', async () => {
    const [one, other] = urls;
    const answer = await fetch(`${one}/api/tenants/batch`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Prefer: 'respond-async' },
      body: JSON.stringify({
        tenants: ['a', 'b', 'c', 'd'].map((name) => ({
          tenant_name: `Two ${name}`,
          domain: `two-${name}.example.com`,
          schema_name: `two_${name}`,
        })),
      }),
    });
    expect(answer.status).toBe(202);
    const place = new URL(answer.headers.get('Location')!, one).pathname;
    const events = await (await fetch(`${other}${place}/events`)).text();
    const told = events.split('\n').filter((line) => line.startsWith('data: '));
    expect(JSON.parse(told.at(-1)!.slice('data: '.length))).toMatchObject({
      batch: { total: 4, succeeded: 4, failed: 0, percent: 100 },
    });
    const shown = (await (await fetch(`${other}${place}`)).json()) as object;
    expect(shown).toMatchObject({ status: 'succeeded' });
  });

  it('compares the cluster with the registry in turns', async () => {
    const runs = () =>
      world.query<{ finished: boolean; due: boolean }>(
        `SELECT finished_at IS NOT NULL AS finished, due_at > now() + interval '2 seconds' AS due
         FROM control_plane.reconcile_runs`,
      );
    await expect.poll(runs, { timeout: 20_000 }).toEqual([{ finished: true, due: false }]);
  });

  it('goes on with one when the other is killed', async () => {
    const [one, other] = gateways;
    const creating = fetch(`${urls[0]}/graphql`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({
        query: `mutation { createTenantsBatch(input: { wait: false, tenants: [
          { name: "k1", slug: "k1" }, { name: "k2", slug: "k2" }, { name: "k3", slug: "k3" } ] }) {
          batch { id } } }`,
      }),
    });
    const { data } = (await (await creating).json()) as {
      data: { createTenantsBatch: { batch: { id: string } } };
    };
    one.signal('SIGKILL', 'group');
    await one.ended();
    const events = await fetch(`${urls[1]}/api/batches/${data.createTenantsBatch.batch.id}/events`);
    expect(await events.text()).toMatch(/"succeeded":3,"failed":0,"percent":100/);
    other.signal('SIGTERM');
    expect((await other.ended()).code).toBe(0);
  });

  it('refuses a gateway that is older than the control plane', async () => {
    const ledger = 'control_plane.knex_migrations';
    await world.query(
      `INSERT INTO ${ledger} (name, batch, migration_time) VALUES ('29990101_x.ts', 9, now())`,
    );
    const { code, stderr } = await startAndEnd(settings);
    await world.query(`DELETE FROM ${ledger} WHERE batch = 9`);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^DATABASE_URL: .* a newer version of Tenantry made them: this one does not know migration 29990101_x.ts\n$/,
    );
  });

  it('refuses FAILPOINTS that name what there is not', async () => {
    const { code, stderr } = await startAndEnd({ ...settings, FAILPOINTS: 'no_step:after=crash' });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^FAILPOINTS: no_step:after is none of reserve:before, .*\n$/);
  });
});
