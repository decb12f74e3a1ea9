import { createServer, type AddressInfo, type Server } from 'node:net';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { createKeyRing } from '../../src/crypto/envelope.ts';
import { connectionStringPurpose } from '../../src/provisioning/steps/encrypt-credentials.ts';
import { onServer, withDatabase } from '../control-template.ts';
import { createWorld, type Answer, type TestGateway, type World } from '../harness.ts';
import { bearer, startWithTokens } from '../tokens.ts';
import { isolations } from './isolations.ts';
import { clusters, useSecondServer } from './second-server.ts';
import { makeTenant, type Made } from './tenants.ts';

const second = useSecondServer();
let world: World;
let gateway: TestGateway;
let partners: TestGateway;
let partnerA: Record<string, string>;
let partnerB: Record<string, string>;

beforeAll(async () => {
  world = await createWorld();
  const settings = clusters(
    { name: 'one', url: world.controlUrl },
    { name: 'two', url: second.url, weight: 0 },
  );
  gateway = await world.start({ settings });
  partners = await startWithTokens(world, settings);
  partnerA = await bearer({ sub: 'a', roles: ['partner-admin'], partner: 'health-a' });
  partnerB = await bearer({ sub: 'b', roles: ['partner-admin'], partner: 'health-b' });
});
afterAll(() => world.close());

interface Health {
  readonly tenant: { readonly id: string; readonly database: Place };
  readonly status: string;
  readonly reachable: boolean;
  readonly schemaValid: boolean;
  readonly migrationVersion: string | null;
  readonly latencyMs: number | null;
  readonly checkedAt: string;
  readonly error: string | null;
}

interface Place {
  readonly status: string;
  readonly checkedAt: string | null;
}

const fields = `tenant { id } status reachable schemaValid migrationVersion latencyMs checkedAt error`;

async function healthOf(...ids: readonly string[]): Promise<readonly Health[]> {
  const { tenantHealth } = await gateway.graphql<{ tenantHealth: Health[] }>(
    `query ($ids: [ID!]) { tenantHealth(ids: $ids) { ${fields} } }`,
    { ids },
  );
  return tenantHealth;
}

/** `TenantDatabase` as a query that checks nothing tells of it. */
async function placeOf(id: string): Promise<Place> {
  const { tenant } = await gateway.graphql<{ tenant: { database: Place } }>(
    `query ($id: ID!) { tenant(id: $id) { database { status checkedAt } } }`,
    { id },
  );
  return tenant.database;
}

interface Entry {
  readonly tenant_id: number;
  readonly overall_health: string;
}

async function restHealth(number: number): Promise<Entry | undefined> {
  const { json, status } = await gateway.get('/api/tenants/health');
  expect(status).toBe(200);
  return (json as Entry[]).find((entry) => entry.tenant_id === number);
}

async function numberOf({ tenant }: Made): Promise<number> {
  const [row] = await world.query<{ number: string }>(
    'SELECT number FROM control_plane.tenants WHERE id = $1',
    [tenant.id],
  );
  return Number(row!.number);
}

/** SQL of a superuser where the tenant's tables are. */
function inPlace({ tenant }: Made, sql: string): Promise<unknown> {
  return onServer(withDatabase(inject('serverUrl'), tenant.database.databaseName), (client) =>
    client.query(sql),
  );
}

let count = 0;
function named(isolation: string): { name: string; isolation: string } {
  return { name: `Health ${(count += 1)}`, isolation };
}

function schemaOf({ tenant }: Made): string {
  return tenant.database.schemaName ?? 'public';
}

async function loginRole(id: string): Promise<string> {
  const [row] = await world.query<{ role: string }>(
    'SELECT login_role AS role FROM control_plane.tenant_databases WHERE tenant_id = $1',
    [id],
  );
  return row!.role;
}

describe.for(isolations)('Query.tenantHealth, $isolation', ({ isolation }) => {
  test('HEALTHY: its own credentials open it, and all is there', async () => {
    const made = await makeTenant(gateway, named(isolation));
    const { id } = made.tenant;
    expect(await placeOf(id)).toEqual({ status: 'PROVISIONED', checkedAt: null });
    const [health, ...others] = await healthOf(id);
    expect(others).toEqual([]);
    expect(health).toEqual({
      tenant: { id },
      status: 'HEALTHY',
      reachable: true,
      schemaValid: true,
      migrationVersion: made.tenant.database.migrationVersion,
      latencyMs: expect.any(Number) as number,
      checkedAt: expect.any(String) as string,
      error: null,
    });
    expect(await placeOf(id)).toEqual({ status: 'PROVISIONED', checkedAt: health!.checkedAt });
    const number = await numberOf(made);
    expect(await restHealth(number)).toEqual({
      tenant_id: number,
      tenant_name: made.tenant.name,
      schema_name: made.tenant.database.schemaName,
      schema_valid: true,
      db_accessible: true,
      overall_health: 'healthy',
    });
  });

  test('UNHEALTHY while a required table is missing', async () => {
    const made = await makeTenant(gateway, named(isolation));
    const { id } = made.tenant;
    await inPlace(made, `ALTER TABLE "${schemaOf(made)}".settings RENAME TO other`);
    expect(await healthOf(id)).toMatchObject([
      {
        status: 'UNHEALTHY',
        reachable: true,
        schemaValid: false,
        error: 'Required tables are missing: settings',
      },
    ]);
    expect(await restHealth(await numberOf(made))).toMatchObject({
      schema_valid: false,
      db_accessible: true,
      overall_health: 'unhealthy',
    });
    await inPlace(made, `ALTER TABLE "${schemaOf(made)}".other RENAME TO settings`);
    expect(await healthOf(id)).toMatchObject([{ status: 'HEALTHY', error: null }]);
  });

  test('UNHEALTHY, and OUTDATED, while tenant migrations are missing', async () => {
    const made = await makeTenant(gateway, named(isolation));
    const { id, database } = made.tenant;
    const ledger = `"${schemaOf(made)}".knex_migrations`;
    await inPlace(made, `DELETE FROM ${ledger} WHERE name = '${database.migrationVersion!}'`);
    const [health] = await healthOf(id);
    expect(health).toMatchObject({ status: 'UNHEALTHY', reachable: true, schemaValid: false });
    expect(health!.error).toContain(database.migrationVersion);
    expect((await placeOf(id)).status).toBe('OUTDATED');
    await inPlace(
      made,
      `INSERT INTO ${ledger} (name, batch, migration_time) VALUES ('${database.migrationVersion!}', 1, now())`,
    );
    expect(await healthOf(id)).toMatchObject([{ status: 'HEALTHY' }]);
    expect((await placeOf(id)).status).toBe('PROVISIONED');
  });

  test('ERROR, and UNREACHABLE, while its credentials are refused', async () => {
    const made = await makeTenant(gateway, named(isolation));
    const { id } = made.tenant;
    const role = await loginRole(id);
    await world.query(`ALTER ROLE "${role}" NOLOGIN`);
    expect(await healthOf(id)).toMatchObject([
      {
        status: 'ERROR',
        reachable: false,
        schemaValid: true,
        migrationVersion: made.tenant.database.migrationVersion,
        latencyMs: null,
        error: 'Its credentials are refused',
      },
    ]);
    expect((await placeOf(id)).status).toBe('UNREACHABLE');
    expect(await restHealth(await numberOf(made))).toMatchObject({
      db_accessible: false,
      overall_health: 'error',
      error: 'Its credentials are refused',
    });
    await world.query(`ALTER ROLE "${role}" LOGIN`);
    expect(await healthOf(id)).toMatchObject([{ status: 'HEALTHY' }]);
    expect((await placeOf(id)).status).toBe('PROVISIONED');
  });

  test('one that locks its own tables is told of, and holds up nobody', async () => {
    const made = await makeTenant(gateway, named(isolation));
    const other = await makeTenant(gateway, named(isolation));
    const url = withDatabase(inject('serverUrl'), made.tenant.database.databaseName);
    const client = new pg.Client(url);
    await client.connect();
    await client.query(`BEGIN; LOCK TABLE "${schemaOf(made)}".knex_migrations`);
    expect(await healthOf(made.tenant.id, other.tenant.id)).toMatchObject([
      { status: 'ERROR', error: 'It did not answer in time' },
      { status: 'HEALTHY' },
    ]);
    await client.end();
  });

  test('suspended and deleted ones are left out', async () => {
    const suspended = await makeTenant(gateway, named(isolation));
    const deleted = await makeTenant(gateway, named(isolation));
    const active = await makeTenant(gateway, named(isolation));
    const ids = [suspended, deleted, active].map(({ tenant }) => tenant.id);
    await world.query(`UPDATE control_plane.tenants SET status = 'SUSPENDED' WHERE id = $1`, [
      suspended.tenant.id,
    ]);
    await gateway.graphql(
      `mutation ($id: ID!) { deleteTenant(input: { id: $id }) { userErrors { code } } }`,
      { id: deleted.tenant.id },
    );
    expect(await healthOf(...ids)).toMatchObject([
      { tenant: { id: active.tenant.id }, status: 'HEALTHY' },
    ]);
    for (const one of [suspended, deleted]) {
      expect(await restHealth(await numberOf(one))).toBeUndefined();
      const { tenant } = await gateway.graphql<{ tenant: { database: { health: Health } } }>(
        `query ($id: ID!) { tenant(id: $id) { database { health { ${fields} } } } }`,
        { id: one.tenant.id },
      );
      expect(tenant.database.health).toMatchObject({ status: 'ERROR', reachable: false });
      expect(tenant.database.health.error).toMatch(/^A tenant that is (SUSPENDED|DELETED)/);
      expect(await placeOf(one.tenant.id)).toEqual({ status: 'PROVISIONED', checkedAt: null });
    }
  });

  test('TenantDatabase.health of many tenants in one query', async () => {
    const made = await makeTenant(gateway, named(isolation));
    const { tenants } = await gateway.graphql<{
      tenants: { nodes: { id: string; database: { health: Health } }[] };
    }>(
      `query ($search: String) { tenants(first: 5, filter: { search: $search }) {
        nodes { id database { health { ${fields} } } } } }`,
      { search: made.tenant.slug },
    );
    expect(tenants.nodes).toMatchObject([
      {
        id: made.tenant.id,
        database: { health: { status: 'HEALTHY', tenant: { id: made.tenant.id } } },
      },
    ]);
  });
});

describe('Query.tenantHealth of what is gone', () => {
  test('a database: ERROR', async () => {
    const made = await makeTenant(gateway, named('DATABASE'));
    const { databaseName } = made.tenant.database;
    await world.query(`DROP DATABASE "${databaseName}" WITH (FORCE)`);
    expect(await healthOf(made.tenant.id)).toMatchObject([
      { status: 'ERROR', reachable: false, error: 'Its database is not there' },
    ]);
    expect(await restHealth(await numberOf(made))).toMatchObject({
      overall_health: 'error',
      error: 'Its database is not there',
    });
  });

  test('a schema: UNHEALTHY, since the database opens', async () => {
    const made = await makeTenant(gateway, named('SCHEMA'));
    await inPlace(made, `DROP SCHEMA "${schemaOf(made)}" CASCADE`);
    expect(await healthOf(made.tenant.id)).toMatchObject([
      { status: 'UNHEALTHY', reachable: true, error: 'Its credentials do not come to its schema' },
    ]);
  });

  test('a cluster: ERROR, and those of other clusters are told of', async () => {
    const here = await makeTenant(gateway, named('SCHEMA'));
    const there = await makeTenant(gateway, { ...named('SCHEMA'), cluster: 'two' });
    const ids = [there.tenant.id, here.tenant.id];
    expect(await healthOf(...ids)).toMatchObject([{ status: 'HEALTHY' }, { status: 'HEALTHY' }]);
    await second.stop();
    const answers = [await gateway.get('/api/tenants/health')];
    expect(await healthOf(...ids)).toMatchObject([
      {
        tenant: { id: there.tenant.id },
        status: 'ERROR',
        error: 'Its cluster takes no connections',
      },
      { tenant: { id: here.tenant.id }, status: 'HEALTHY' },
    ]);
    const text = answers.map((answer: Answer) => answer.text).join();
    expect(text).toContain('Its cluster takes no connections');
    expect(text).not.toContain('127.0.0.1');
    await second.start();
    await expect.poll(async () => (await healthOf(there.tenant.id))[0]?.status).toBe('HEALTHY');
  });
});

describe('Query.tenantHealth of a server that is silent', () => {
  let silent: Server;
  beforeAll(async () => {
    silent = createServer((socket) => {
      socket.resume(); // it hears, and says nothing
    });
    await new Promise<void>((listening) => silent.listen(0, '127.0.0.1', listening));
  });
  afterAll(() => new Promise((closed) => silent.close(closed)));

  test('is given up; its cluster, whose admin is answered, is not', async () => {
    const ids: string[] = [];
    const { port } = silent.address() as AddressInfo;
    const keyRing = createKeyRing({ current: world.encryptionKey });
    for (let index = 0; index < 8; index += 1) {
      const { tenant } = await makeTenant(gateway, named('SCHEMA'));
      ids.push(tenant.id);
      const url = `postgres://somebody:s3cret@127.0.0.1:${port}/somewhere`;
      await world.query(
        `UPDATE control_plane.tenant_databases SET connection_string_encrypted = $2
         WHERE tenant_id = $1`,
        [tenant.id, keyRing.seal(url, connectionStringPurpose, tenant.id)],
      );
    }
    const health = await healthOf(...ids);
    expect(health.map(({ tenant }) => tenant.id)).toEqual(ids);
    const errors = health.map(({ error }) => error);
    expect(new Set(errors)).toEqual(new Set(['It did not answer within 5 s']));
    expect(gateway.logs()).not.toContain('s3cret');
    await world.query(`UPDATE control_plane.tenants SET status = 'SUSPENDED' WHERE id = ANY ($1)`, [
      ids,
    ]);
  });
});

describe('who may know', () => {
  async function made(caller: Record<string, string>, name: string): Promise<string> {
    const { json } = await partners.post(
      '/graphql',
      {
        query: `mutation { createTenant(input: { name: "${name}", isolation: SCHEMA }) { tenant { id } } }`,
      },
      caller,
    );
    return (json as { data: { createTenant: { tenant: { id: string } } } }).data.createTenant.tenant
      .id;
  }

  async function seen(caller: Record<string, string>, ids: readonly string[] | null) {
    const query = 'query ($ids: [ID!]) { tenantHealth(ids: $ids) { tenant { id } status } }';
    const { json } = await partners.post('/graphql', { query, variables: { ids } }, caller);
    const { data, errors } = json as {
      data: { tenantHealth: { tenant: { id: string }; status: string }[] | null };
      errors?: { extensions: { code: string } }[];
    };
    return errors?.[0]?.extensions.code ?? data.tenantHealth?.map(({ tenant }) => tenant.id);
  }

  test('a partner: its own; who holds fleet:read: everybody’s; others: nobody’s', async () => {
    const own = await made(partnerA, 'Health of A');
    const foreign = await made(partnerB, 'Health of B');
    expect(await seen(partnerA, [foreign, own, own, 'nobody', own.toUpperCase()])).toEqual([own]);
    expect(await seen(partnerA, [])).toEqual([]);
    expect(await seen(partnerA, null)).toEqual([own]);
    const monitor = await bearer({ sub: 'm', permissions: ['fleet:read'] });
    expect(await seen(monitor, [foreign, own])).toEqual([foreign, own]);
    expect(await seen(monitor, null)).toEqual(expect.arrayContaining([foreign, own]));
    const nobody = await bearer({ sub: 'n', permissions: ['tenant:create'] });
    expect(await seen(nobody, [own])).toBe('FORBIDDEN');
    expect((await partners.get('/api/tenants/health', nobody)).status).toBe(403);
    const list = (await partners.get('/api/tenants/health', partnerA)).json as Entry[];
    expect(list).toHaveLength(1);
  });
});
