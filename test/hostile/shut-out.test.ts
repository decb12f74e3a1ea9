import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { serviceRoleName } from '../../src/provisioning/names.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { openAdmin } from '../postgres/admin.ts';
import { runUninterruptibly } from './uninterruptible.ts';
import { scriptFailpoints } from '../provisioning/failpoints.ts';
import { isolations } from '../provisioning/isolations.ts';
import { isThere, park, startingIn, type Parked } from './parked.ts';
import { connectionString, makeTenant, type Made } from '../provisioning/tenants.ts';

interface Operation {
  readonly status: string;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly tenant: { readonly status: string };
}

interface Finding {
  readonly kind: string;
  readonly objectName: string;
  readonly tenantId: string;
  readonly detail: string;
}

describe.each(['superuser', 'limited'] as const)('as %s', (admin) => {
  const failpoints = scriptFailpoints();
  const parked: Parked[] = [];
  let world: World;
  let gateway: TestGateway;
  let observer: pg.Client;

  beforeAll(async () => {
    world = await createWorld({ admin });
    gateway = await world.start({ failpoints, settings: { RECONCILE_INTERVAL_SECONDS: '1' } });
    observer = await openAdmin();
  });
  afterEach(async () => {
    failpoints.clear();
    for (const { pid, ended } of parked.splice(0)) {
      await observer.query('SELECT pg_terminate_backend($1)', [pid]);
      await ended;
    }
  });
  afterAll(async () => {
    await observer.end();
    await world.close();
  });

  async function parkAs({ tenant }: Made): Promise<Parked> {
    const one = await park(world, tenant.id);
    parked.push(one);
    return one;
  }

  async function login({ tenant }: Made) {
    const client = new pg.Client(await connectionString(world, tenant.id));
    const ended = new Promise<void>((resolve) => client.once('end', resolve));
    client.on('error', () => undefined);
    await client.connect();
    const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    return { client, ended, pid: rows[0]!.pid };
  }

  async function remove({ tenant }: Made, wait: boolean) {
    const { deleteTenant } = await gateway.graphql<{
      deleteTenant: { operation: { id: string; status: string }; userErrors: object[] };
    }>(
      `mutation ($input: DeleteTenantInput!) { deleteTenant(input: $input) {
        operation { id status } userErrors { code message } } }`,
      { input: { id: tenant.id, wait } },
    );
    expect(deleteTenant.userErrors).toEqual([]);
    return deleteTenant.operation;
  }

  async function look(operationId: string): Promise<Operation> {
    const { operation } = await gateway.graphql<{ operation: Operation }>(
      `query ($id: ID!) { operation(id: $id) { status error { code message } tenant { status } } }`,
      { id: operationId },
    );
    return operation;
  }

  async function openSessions(): Promise<Finding[]> {
    const { driftReport } = await gateway.graphql<{ driftReport: Finding[] }>(
      '{ driftReport { kind objectName tenantId detail } }',
    );
    return driftReport.filter(({ kind }) => kind === 'OPEN_SESSION');
  }

  const loginOf = async ({ tenant }: Made): Promise<string> =>
    decodeURIComponent(new URL(await connectionString(world, tenant.id)).username);

  test.each(isolations)(
    '$isolation: a deletion ends what is past authentication too, and no neighbour’s',
    async ({ isolation }) => {
      const gone = await makeTenant(gateway, { name: 'Gone', isolation });
      const stays = await makeTenant(gateway, { name: 'Stays', isolation });
      const sessions = [await login(gone), await parkAs(gone), await parkAs(gone)];
      const neighbour = await parkAs(stays);
      expect(await remove(gone, true)).toMatchObject({ status: 'SUCCEEDED' });
      const { databaseName } = gone.tenant.database;
      const starting = await startingIn(world, databaseName);
      for (const { pid } of sessions) expect(starting).not.toContain(pid);
      await Promise.all(sessions.map(({ ended }) => ended));
      expect(await isThere(observer, neighbour.pid)).toBe(true);
    },
  );

  // Both at once: each takes as long as its statement does.
  test('one that does not obey is named; the tenant is shut out, and the deletion waits for it', async () => {
    await Promise.all(isolations.map(({ isolation }) => outlast(isolation)));
    await expect.poll(openSessions, { timeout: 30_000 }).toEqual([]);
  }, 180_000);

  async function outlast(isolation: string): Promise<void> {
    const made = await makeTenant(gateway, { name: `Stubborn ${isolation}`, isolation });
    const session = await login(made);
    const lasting = await runUninterruptibly(session.client, observer, session.pid, 12);
    const { id } = await remove(made, false);
    const named = {
      code: 'UNAVAILABLE',
      message: expect.stringContaining(`${session.pid}`) as string,
    };
    await expect
      .poll(() => look(id), { timeout: 30_000 })
      .toEqual({ status: 'RUNNING', error: named, tenant: { status: 'DELETED' } });
    await expect(login(made)).rejects.toMatchObject({ code: '28000' });
    expect((await gateway.get('/readyz')).json).toMatchObject({
      checks: { operations: expect.stringMatching(/^degraded: [1-9]/) as string },
    });
    const finding = {
      kind: 'OPEN_SESSION',
      objectName: await loginOf(made),
      tenantId: made.tenant.id,
      detail: expect.stringMatching(new RegExp(`pid ${session.pid}, \\d+ s old$`)) as string,
    };
    await expect.poll(openSessions, { timeout: 30_000 }).toContainEqual(finding);
    expect(await look(id)).toMatchObject({ status: 'RUNNING' });
    await lasting.ended;
    await expect
      .poll(() => look(id), { timeout: 60_000 })
      .toEqual({ status: 'SUCCEEDED', error: null, tenant: { status: 'DELETED' } });
  }

  test('a tenant that holds its own role is shut out all the same', async () => {
    const made = await makeTenant(gateway, { name: 'Holding on' });
    const session = await login(made);
    await session.client.query('RESET ROLE');
    await session.client.query(`BEGIN; ALTER ROLE CURRENT_USER PASSWORD 'mine'`);
    expect(await remove(made, true)).toMatchObject({ status: 'SUCCEEDED' });
    await session.ended;
  });

  test('all of its logins are closed', async () => {
    const made = await makeTenant(gateway, { name: 'Served' });
    const service = serviceRoleName(made.tenant.id);
    const [{ there } = {}] = await world.query<{ there: boolean }>(
      'SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1) AS there',
      [service],
    );
    if (there === false) await world.query(`CREATE ROLE "${service}"`);
    await world.query(`ALTER ROLE "${service}" LOGIN`);
    if (admin === 'limited' && there === false) {
      await world.query(`GRANT "${service}" TO "${new URL(world.controlUrl).username}"
        WITH ADMIN OPTION`);
    }
    expect(await remove(made, true)).toMatchObject({ status: 'SUCCEEDED' });
    const rows = await world.query('SELECT rolcanlogin FROM pg_roles WHERE rolname = ANY ($1)', [
      [service, await loginOf(made)],
    ]);
    expect(rows).toEqual([{ rolcanlogin: false }, { rolcanlogin: false }]);
    if (there === false) await world.query(`DROP ROLE "${service}"`);
  });

  test.each(isolations)(
    '$isolation: the reconciler ends sessions of a deleted tenant, starting ones too, and no neighbour’s',
    async ({ isolation }) => {
      const gone = await makeTenant(gateway, { name: 'Swept', isolation });
      const stays = await makeTenant(gateway, { name: 'Kept', isolation });
      expect(await remove(gone, true)).toMatchObject({ status: 'SUCCEEDED' });
      // As if it had slipped in: its login is open for as long as it takes to connect.
      await world.query(`ALTER ROLE "${await loginOf(gone)}" LOGIN`);
      const sessions = [await login(gone), await parkAs(gone)];
      const neighbours = [await login(stays), await parkAs(stays)] as const;
      await world.query(`ALTER ROLE "${await loginOf(gone)}" NOLOGIN`);
      await Promise.all(sessions.map(({ ended }) => ended));
      await neighbours[0].client.query('SELECT 1');
      await neighbours[0].client.end();
      expect(await isThere(observer, neighbours[1].pid)).toBe(true);
    },
  );
});
