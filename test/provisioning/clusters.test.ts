import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from 'vitest';
import { withDatabase, withLogin } from '../control-template.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { scriptFailpoints } from './failpoints.ts';
import { clusterOf, clusters, readiness, useSecondServer } from './second-server.ts';
import { asTenant, connectionString, createTenant, makeTenant, refusal } from './tenants.ts';
import { endedEvents, events, expectOrderly } from './traces.ts';

const failpoints = scriptFailpoints();
const second = useSecondServer();
let world: World;
let gateway: TestGateway;

const here = () => ({ name: 'here', url: world.controlUrl });
const there = (more: object = {}) => ({ name: 'there', url: second.url, ...more });

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({
    failpoints,
    settings: { ...clusters({ ...here(), weight: 2 }, there()), SCHEMA_CREATION_TIMEOUT: '12' },
  });
});
afterEach(() => failpoints.clear());
afterAll(() => world.close());

const state = (cluster: string, of = gateway) => readiness(of, cluster);
const untilBack = (of = gateway): Promise<void> =>
  expect.poll(() => state('there', of), { timeout: 30_000 }).toEqual({ status: 200, check: 'ok' });

/** Stops the other server for the time of `work`. */
async function whileDown<T>(work: () => Promise<T>): Promise<T> {
  await second.stop();
  try {
    return await work();
  } finally {
    await second.start();
  }
}

describe('Mutation.createTenant on several clusters', () => {
  test('places by weight, and the tenants are where the registry says', async () => {
    const names: (string | undefined)[] = [];
    for (let index = 0; index < 6; index += 1) {
      const { tenant } = await makeTenant(gateway, { name: `By weight ${index}` });
      names.push(await clusterOf(world, tenant.id));
      const url = new URL(await connectionString(world, tenant.id));
      const server = names.at(-1) === 'there' ? second.url : world.controlUrl;
      expect(url.host).toBe(new URL(server).host);
    }
    expect(names.filter((name) => name === 'here')).toHaveLength(4);
    expect(names.filter((name) => name === 'there')).toHaveLength(2);
    const { tenants } = await gateway.graphql<{ tenants: { totalCount: number } }>(
      '{ tenants(filter: { cluster: "there" }) { totalCount } }',
    );
    expect(tenants.totalCount).toBe(2);
  });

  test('where the caller says', async () => {
    for (const cluster of ['there', 'there', 'here']) {
      const { tenant } = await makeTenant(gateway, { name: `On ${cluster}`, cluster });
      expect(await clusterOf(world, tenant.id)).toBe(cluster);
    }
  });

  test('INVALID with the names there are, for another one', async () => {
    const { userErrors } = await createTenant(gateway, { name: 'Lost', cluster: 'elsewhere' });
    expect(userErrors).toEqual([
      {
        code: 'INVALID',
        message: 'cluster must be one of: here, there',
        field: ['input', 'cluster'],
      },
    ]);
  });

  test('its tenants reach their own database there, and nothing else', async () => {
    const { tenant } = await makeTenant(gateway, { name: 'Apart', cluster: 'there' });
    await asTenant(world, tenant.id, (client) => client.query('SELECT * FROM settings'));
    const own = await connectionString(world, tenant.id);
    for (const database of ['postgres', 'template1']) {
      const client = new pg.Client(withDatabase(own, database));
      expect(await refusal(client.connect())).toBe('42501');
    }
    const [{ open } = {}] = await second.query<{ open: number }>(
      `SELECT count(*)::int AS open FROM pg_database, aclexplode(coalesce(datacl,
         acldefault('d', datdba))) AS acl WHERE acl.grantee = 0 AND datallowconn`,
    );
    // `tenantry` is made by the embedded server for a control plane of its own, which this is not.
    expect(open).toBeLessThanOrEqual(2);
  });

  test('the registry is closed to tenants on its own server, whatever database the admin uses', async () => {
    const settings = clusters({ name: 'same', url: withDatabase(world.controlUrl, 'postgres') });
    const other = await world.start({ settings });
    const { tenant } = await makeTenant(other, { name: 'Next to the registry' });
    const own = await connectionString(world, tenant.id);
    const registry = new URL(world.controlUrl).pathname.slice(1);
    const client = new pg.Client(withDatabase(own, registry));
    expect(await refusal(client.connect())).toBe('42501');
    await world.query(`GRANT CONNECT ON DATABASE ${registry} TO PUBLIC`);
    const { userErrors } = await createTenant(other, { name: 'Intruder' });
    await world.query(`REVOKE ALL ON DATABASE ${registry} FROM PUBLIC`);
    expect(userErrors[0]?.message).toContain("the credentials open a database that isn't");
    await other.close();
  });

  test('publicHost, publicPort and sslmode are in the connection string that is verified', async () => {
    const { port } = new URL(second.url);
    const settings = clusters(
      there({ publicHost: 'localhost', publicPort: Number(port), sslmode: 'disable' }),
      there({ name: 'astray', publicPort: 1 }),
    );
    const other = await world.start({ settings: { ...settings, SCHEMA_CREATION_TIMEOUT: '3' } });
    const { tenant } = await makeTenant(other, { name: 'Public', cluster: 'there' });
    const url = new URL(await connectionString(world, tenant.id));
    expect([url.host, url.search]).toEqual([`localhost:${port}`, '?sslmode=disable']);
    // Where tenants cannot connect, none is made; the cluster itself is up nonetheless.
    const { userErrors } = await createTenant(other, { name: 'Astray', cluster: 'astray' });
    expect(userErrors[0]?.message).toContain('Step verify_connection did not end');
    expect(await state('astray', other)).toEqual({ status: 200, check: 'ok' });
    await other.close();
  });
});

describe('a cluster that is stopped', () => {
  test('takes no tenants, holds up nothing elsewhere, and takes them again when it is back', async () => {
    const { tenant } = await makeTenant(gateway, { name: 'Cut off', cluster: 'there' });
    await whileDown(async () => {
      await expect
        .poll(() => state('there'), { timeout: 20_000 })
        .toEqual({ status: 200, check: 'degraded: down' });
      for (let index = 0; index < 4; index += 1) {
        const made = await makeTenant(gateway, { name: `Undisturbed ${index}` });
        expect(await clusterOf(world, made.tenant.id)).toBe('here');
      }
      const named = await createTenant(gateway, { name: 'Named', cluster: 'there' });
      expect(named).toMatchObject({
        tenant: null,
        operation: null,
        userErrors: [
          {
            code: 'UNAVAILABLE',
            message: 'Cluster there is down; try again later',
            field: ['input', 'cluster'],
          },
        ],
      });
      const rest = await gateway.post('/api/v1/tenants', {
        name: 'by_rest',
        environment: 'production',
      });
      expect(rest.status).toBe(201); // chooses by itself
      const { deleteTenant } = await gateway.graphql<{ deleteTenant: object }>(
        'mutation ($id: ID!) { deleteTenant(input: { id: $id }) { userErrors { code message } } }',
        { id: tenant.id },
      );
      expect(deleteTenant).toEqual({
        userErrors: [
          {
            code: 'UNAVAILABLE',
            message: 'The tenant cannot be changed at present: its cluster there is down',
          },
        ],
      });
      const asked = await gateway.graphql(
        'query ($id: ID!) { tenant(id: $id) { status database { cluster sizeBytes } } }',
        { id: tenant.id },
      );
      expect(asked).toEqual({
        tenant: { status: 'ACTIVE', database: { cluster: 'there', sizeBytes: null } },
      });
    });
    await untilBack();
    await makeTenant(gateway, { name: 'Again', cluster: 'there' });
  });

  test.each(['create_role', 'create_database', 'verify_connection'])(
    'leaves nothing of a create that it cut off before %s',
    async (step) => {
      const before = (await second.made()).sort();
      const held = failpoints.hold(`${step}:before`);
      const { operation } = await createTenant(gateway, {
        name: `Cut before ${step}`,
        cluster: 'there',
        wait: false,
      });
      await held.reached;
      await whileDown(async () => {
        held.release();
        failpoints.clear();
        // It is tried until its deadline, told, and stays visible; others go on meanwhile.
        await expect
          .poll(() => events(world, operation!.id))
          .toContainEqual(expect.objectContaining({ step, status: 'RETRYING' }));
        await makeTenant(gateway, { name: 'Meanwhile' });
        const status = async (): Promise<unknown> => {
          const asked = await gateway.graphql<{ operation: { status: string } }>(
            'query ($id: ID!) { operation(id: $id) { status } }',
            { id: operation!.id },
          );
          return asked.operation.status;
        };
        await expect.poll(status, { timeout: 30_000 }).toBe('COMPENSATING');
      });
      await expect
        .poll(async () => (await events(world, operation!.id)).at(-1)?.operationStatus, {
          timeout: 60_000,
        })
        .toBe('COMPENSATED');
      expectOrderly(await endedEvents(world, operation!.id));
      expect((await second.made()).sort()).toEqual(before);
      await untilBack();
    },
    120_000,
  );

  test('a create that it interrupts goes on when it is back in time', async () => {
    const held = failpoints.hold('create_database:before');
    const creating = createTenant(gateway, { name: 'In time', cluster: 'there' });
    await held.reached;
    await whileDown(() => {
      held.release();
      failpoints.clear();
      return Promise.resolve();
    });
    expect((await creating).userErrors).toEqual([]);
    await untilBack();
  });

  test('operations left to others wait for it, and keep no others waiting', async () => {
    const holding = scriptFailpoints();
    const held = holding.hold('create_database:before');
    const leaving = await world.start({
      failpoints: holding,
      settings: { ...clusters(here(), there()), SHUTDOWN_GRACE_SECONDS: '0' },
    });
    const accept = async (cluster: string): Promise<string> => {
      const { operation } = await createTenant(leaving, { name: 'Orphan', cluster, wait: false });
      return operation!.id;
    };
    // More than the queue hands on at a time.
    const waiting = await Promise.all(Array.from({ length: 6 }, () => accept('there')));
    const other = await accept('here');
    await held.reached;
    await whileDown(async () => {
      await leaving.close();
      const rows = await endedEvents(world, other);
      expect(rows.at(-1)).toMatchObject({ operationStatus: 'SUCCEEDED' });
      for (const id of waiting) {
        const row = (await events(world, id)).at(-1);
        expect(row?.operationStatus).not.toMatch(/SUCCEEDED|COMPENSATED/);
      }
    });
    for (const id of waiting) {
      await expect
        .poll(async () => (await events(world, id)).at(-1)?.operationStatus, { timeout: 90_000 })
        .toMatch(/SUCCEEDED|COMPENSATED/);
      expectOrderly(await endedEvents(world, id));
    }
    await untilBack();
  }, 180_000);

  test('is no reason not to start: it is prepared when it comes', async () => {
    const settings = clusters(there());
    const other = await whileDown(async () => {
      const started = await world.start({ settings });
      expect(await state('there', started)).toEqual({ status: 200, check: 'degraded: down' });
      expect(started.logs()).toContain('cluster is down');
      const { userErrors } = await createTenant(started, { name: 'Nowhere' });
      expect(userErrors).toMatchObject([
        {
          code: 'UNAVAILABLE',
          message: 'No cluster can take the tenant at present; try again later',
        },
      ]);
      const asked = await started.graphql('{ tenants { totalCount } }');
      expect(asked).toMatchObject({ tenants: { totalCount: expect.any(Number) as number } });
      return started;
    });
    await untilBack(other);
    await makeTenant(other, { name: 'Late', cluster: 'there' });
    await other.close();
    await untilBack();
  });
});

describe('a cluster that accepts connections and never says a word', () => {
  const sockets = new Set<Socket>();
  const silent = createServer((socket) => sockets.add(socket.on('error', () => undefined)));
  beforeAll(async () => {
    silent.listen(0, '127.0.0.1');
    await once(silent, 'listening');
  });
  afterAll(() => {
    for (const socket of sockets) socket.destroy();
    silent.close();
  });

  test('neither the start nor anything elsewhere waits for it', async () => {
    const { port } = silent.address() as AddressInfo;
    const mute = {
      name: 'mute',
      url: `postgres://u:swordfish@127.0.0.1:${port}/postgres`,
      weight: 9,
    };
    const other = await world.start({ settings: clusters(mute, here()) });
    expect(await state('mute', other)).toEqual({ status: 200, check: 'degraded: down' });
    for (const index of [1, 2, 3]) {
      const { tenant } = await makeTenant(other, { name: `Unimpressed ${index}` });
      expect(await clusterOf(world, tenant.id)).toBe('here');
    }
    const { userErrors } = await createTenant(other, { name: 'Mute', cluster: 'mute' });
    expect(userErrors).toMatchObject([{ code: 'UNAVAILABLE' }]);
    await other.close();
    expect(sockets.size).toBeGreaterThan(0);
  });
});

describe('a cluster that is configured wrongly', () => {
  const wrong = () => ({ name: 'wrong', url: withLogin(second.url, 'nobody', 'swordfish') });

  test('does not keep the others from working', async () => {
    const other = await world.start({ settings: clusters(wrong(), here()) });
    expect(await state('wrong', other)).toEqual({ status: 200, check: 'degraded: down' });
    expect(other.logs()).toContain('refuses the password of \\"nobody\\"');
    expect(other.logs()).not.toContain('swordfish');
    const { tenant } = await makeTenant(other, { name: 'Right' });
    expect(await clusterOf(world, tenant.id)).toBe('here');
    await other.close();
  });

  test.each(['CLUSTERS', 'TENANT_DB_HOST'])(
    '%s: ends the start when it is the only one',
    async (setting) => {
      const { hostname, port } = new URL(second.url);
      const settings =
        setting === 'CLUSTERS'
          ? clusters(wrong())
          : {
              TENANT_DB_HOST: hostname,
              TENANT_DB_PORT: port,
              TENANT_DB_USER: 'nobody',
              TENANT_DB_PASSWORD: 'swordfish',
            };
      const error: unknown = await world.start({ settings }).catch((reason: unknown) => reason);
      expect(error).toMatchObject({
        setting,
        message: expect.stringMatching(
          new RegExp(`^${setting}: cluster (wrong|tenants): .* refuses the password of "nobody"$`),
        ) as string,
      });
      expect(String(error)).not.toContain('swordfish');
    },
  );

  test('whose role lacks a right is told which', async () => {
    await second.query(`CREATE ROLE weak LOGIN PASSWORD 'swordfish'`);
    const settings = clusters({ name: 'weak', url: withLogin(second.url, 'weak', 'swordfish') });
    // Where it may not even connect, that is said; the database is the superuser's.
    await second.query('GRANT CONNECT ON DATABASE postgres TO weak');
    await expect(world.start({ settings })).rejects.toMatchObject({
      message:
        'CLUSTERS: cluster weak: role "weak" lacks CREATEDB; run once: ALTER ROLE "weak" CREATEDB',
    });
  });
});

test('TENANT_DB_*: one cluster elsewhere, called tenants', async () => {
  const { hostname, port, username, password } = new URL(second.url);
  const other = await world.start({
    settings: {
      TENANT_DB_HOST: hostname,
      TENANT_DB_PORT: port,
      TENANT_DB_USER: decodeURIComponent(username),
      TENANT_DB_PASSWORD: decodeURIComponent(password),
    },
  });
  const { tenant } = await makeTenant(other, { name: 'Short way' });
  expect(await clusterOf(world, tenant.id)).toBe('tenants');
  expect(new URL(await connectionString(world, tenant.id)).port).toBe(port);
  await other.close();
});

test('tenants of a cluster that is not configured any more: a warning, queries, and clear refusals', async () => {
  const { tenant } = await makeTenant(gateway, { name: 'Left behind', cluster: 'there' });
  const other = await world.start({ settings: clusters(here()) });
  expect(other.logs()).toMatch(
    /"clusters":\[[^\]]*"there"[^\]]*\].*clusters that are not configured/,
  );
  const asked = await other.graphql(
    'query ($id: ID!) { tenant(id: $id) { name database { cluster sizeBytes } } }',
    { id: tenant.id },
  );
  expect(asked).toMatchObject({ tenant: { database: { cluster: 'there', sizeBytes: null } } });
  const { deleteTenant } = await other.graphql<{ deleteTenant: object }>(
    'mutation ($id: ID!) { deleteTenant(input: { id: $id }) { userErrors { code message } } }',
    { id: tenant.id },
  );
  expect(deleteTenant).toMatchObject({
    userErrors: [
      {
        code: 'UNAVAILABLE',
        message: expect.stringContaining('there is not configured') as string,
      },
    ],
  });
  await other.close();
});

test('two names for one server are warned of', async () => {
  const twin = { name: 'twin', url: withDatabase(inject('serverUrl'), 'postgres') };
  const other = await world.start({ settings: clusters(here(), there(), twin) });
  const warnings = other.logs().match(/.*two clusters are one server.*/g);
  expect(warnings).toHaveLength(1);
  expect(warnings![0]).toContain('"twin"');
  expect(warnings![0]).not.toContain('"there"');
  await other.close();
});
