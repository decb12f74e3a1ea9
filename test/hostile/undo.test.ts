import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { withDatabase, withLogin } from '../control-template.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { hostileContents } from './hostile-contents.ts';
import { scriptFailpoints } from '../provisioning/failpoints.ts';
import { isolations } from '../provisioning/isolations.ts';
import { makeMigrationFolder, requiredTables } from '../provisioning/migration-folders.ts';
import { createTenant, makeTenant, connectionString } from '../provisioning/tenants.ts';
import { expectNothingLeft, tracesOf } from '../provisioning/traces.ts';

interface Finding {
  readonly kind: string;
  readonly objectName: string;
  readonly tenantId: string | null;
  readonly detail: string;
  readonly firstSeenAt: string;
}

interface Roles {
  readonly tenantId: string;
  readonly owner: string;
  readonly login: string;
  readonly database: string;
}

const often = { RECONCILE_INTERVAL_SECONDS: '1', RECONCILE_GRACE_SECONDS: '0' };
const patient = { timeout: 30_000, interval: 200 };

describe.each(['superuser', 'limited'] as const)('as a %s', (admin) => {
  const failpoints = scriptFailpoints();
  let world: World;
  let gateway: TestGateway;
  const open: pg.Client[] = [];

  beforeAll(async () => {
    world = await createWorld({ admin });
    gateway = await world.start({ failpoints, settings: often });
  });
  afterEach(async () => {
    failpoints.clear();
    for (const client of open.splice(0)) await client.end().catch(() => undefined);
  });
  afterAll(() => world.close());

  async function pending(): Promise<Roles> {
    const [roles] = await world.query<Roles>(
      `SELECT tenant_id AS "tenantId", owner_role AS owner, login_role AS login,
         database_name AS database
       FROM control_plane.tenant_databases WHERE status = 'PENDING'`,
    );
    return roles!;
  }

  /** A session of the tenant in the making, whose password nobody knows yet: it gets another one. */
  async function asPending(): Promise<pg.Client> {
    const { database, login } = await pending();
    await world.query(`ALTER ROLE "${login}" PASSWORD 'known'`);
    const url = withLogin(withDatabase(world.controlUrl, database), login, 'known');
    return connect(url);
  }

  async function connect(url: string): Promise<pg.Client> {
    const client = new pg.Client(url);
    client.on('error', () => undefined); // the undo ends it
    open.push(client);
    await client.connect();
    return client;
  }

  async function report(): Promise<Finding[]> {
    const { driftReport } = await gateway.graphql<{ driftReport: Finding[] }>(
      '{ driftReport { kind objectName tenantId detail firstSeenAt } }',
    );
    return driftReport.filter(({ kind }) => kind === 'LEFTOVER_ROLE');
  }

  const hard = hostileContents.filter(({ hardest }) => hardest === true);

  describe.each(isolations)('$isolation', ({ isolation, named }) => {
    test.each(isolation === 'SCHEMA' ? hard : hard.slice(0, 1))(
      'an undo leaves nothing of $what',
      { timeout: 120_000 },
      async ({ sql, times = 1 }) => {
        failpoints.at('activate:before', async () => {
          const tenant = await asPending();
          for (const statement of sql(Math.ceil(100 * times))) await tenant.query(statement);
          await tenant.query('BEGIN; CREATE TEMPORARY TABLE held (a int)');
          throw new Error('failpoint');
        });
        const slug = `hostile-${admin}-${isolation.toLowerCase()}-${hard.findIndex((one) => one.sql === sql)}`;
        const input = { name: 'Hostile', slug, ...named };
        const { operation, userErrors } = await createTenant(gateway, input);
        expect(userErrors).toMatchObject([{ code: 'PROVISIONING_FAILED' }]);
        await expectNothingLeft(world, gateway, operation!.id);
        failpoints.clear();
        await makeTenant(gateway, input); // the names are free
      },
    );

    const giver = isolation;
    test.each(isolations)(
      'a tenant that holds on to one in the making ($isolation) does not keep it from ending',
      { timeout: 120_000 },
      async ({ isolation: taker, named: takersNames }) => {
        const { tenant } = await makeTenant(gateway, {
          name: `Holder ${giver} ${taker}`,
          isolation: giver,
        });
        const holder = await connect(await connectionString(world, tenant.id));
        let roles: Roles | undefined;
        failpoints.at('verify_connection:before', async () => {
          roles = await pending();
          await holder.query(
            `CREATE TABLE gift (); CREATE POLICY "p\u001b[31m" ON gift TO "${roles.owner}"`,
          );
          await holder.query(`BEGIN; LOCK TABLE gift; GRANT SELECT ON gift TO "${roles.login}"`);
          throw new Error('failpoint');
        });
        const slug = `held-${admin}-${giver.toLowerCase()}-${taker.toLowerCase()}`;
        const input = { name: 'Held', slug, ...takersNames };
        const { operation, userErrors } = await createTenant(gateway, input);
        failpoints.clear();
        expect(userErrors).toMatchObject([{ code: 'PROVISIONING_FAILED' }]);
        const { login, owner, tenantId } = roles!;
        expect(await tracesOf(world, operation!.id)).toMatchObject({
          operationStatus: 'COMPENSATED',
          databaseStatus: 'DROPPED',
          places: [],
          sessions: [],
        });
        const left = await world.query(
          `SELECT rolname, rolcanlogin, rolpassword FROM pg_authid
           WHERE rolname IN ($1, $2) ORDER BY 1`,
          [owner, login],
        );
        expect(left).toEqual([
          { rolname: owner, rolcanlogin: false, rolpassword: null },
          { rolname: login, rolcanlogin: false, rolpassword: null },
        ]);
        await makeTenant(gateway, input); // the names are free

        await expect
          .poll(async () => (await report()).filter((one) => one.tenantId === tenantId), patient)
          .toHaveLength(2);
        const findings = (await report()).filter((one) => one.tenantId === tenantId);
        const [ofOwner] = findings.filter(({ objectName }) => objectName === owner);
        expect(ofOwner!.detail).toBe(
          `it still has policies on tables in database "${tenant.database.databaseName}" (1); it is dropped in one of the next turns`,
        );
        // What is found at the next comparison is as old as before.
        const [ofLogin] = findings.filter(({ objectName }) => objectName === login);
        expect(ofLogin!.detail).toBe(
          'another session holds a lock on it; it is dropped in one of the next turns',
        );
        await holder.query('COMMIT');
        await expect
          .poll(() => tracesOf(world, operation!.id), patient)
          .toMatchObject({ roles: [] });
        await expect
          .poll(async () => (await report()).filter((one) => one.tenantId === tenantId), patient)
          .toEqual([]);
      },
    );
  });
});

describe.each(['superuser', 'limited'] as const)('a template, as a %s,', (admin) => {
  test(
    'to whose role a tenant gave rights keeps no gateway from starting',
    { timeout: 120_000 },
    async () => {
      const world = await createWorld({ admin });
      const folder = await makeMigrationFolder();
      await folder.write('001_tables', requiredTables);
      const settings = { TENANT_MIGRATIONS_DIR: folder.path, ...often };
      const templates = () =>
        world.query<{ owner: string; status: string }>(
          'SELECT owner_role AS owner, status FROM control_plane.templates ORDER BY created_at',
        );
      try {
        let gateway = await world.start({ settings });
        const { tenant } = await makeTenant(gateway, { name: 'Holder' });
        const [old] = await templates();
        await gateway.close();
        const holder = new pg.Client(await connectionString(world, tenant.id));
        await holder.connect();
        await holder.query(`CREATE TABLE gift (); CREATE TABLE other ();
        GRANT ALL ON other TO "${old!.owner}"; CREATE POLICY p ON gift TO "${old!.owner}"`);
        await holder.query('BEGIN; LOCK TABLE gift');

        for (const migration of ['002_more', '003_more']) {
          await world.query(
            `UPDATE control_plane.templates SET used_at = now() - interval '1 hour'`,
          );
          await folder.write(migration, `CREATE TABLE t_${migration} ()`);
          gateway = await world.start({ settings });
          await makeTenant(gateway, { name: migration });
          if (migration === '002_more') await gateway.close();
        }
        expect((await templates()).map(({ status }) => status)).toEqual(['DROPPING', 'READY']);
        const found = () =>
          gateway
            .graphql<{ driftReport: Finding[] }>('{ driftReport { kind objectName detail } }')
            .then(({ driftReport }) => driftReport.filter(({ kind }) => kind === 'LEFTOVER_ROLE'));
        await expect.poll(found, patient).toEqual([
          {
            kind: 'LEFTOVER_ROLE',
            objectName: old!.owner,
            detail: `it still has policies on tables in database "${tenant.database.databaseName}" (1); it is dropped in one of the next turns`,
          },
        ]);
        await holder.query('COMMIT');
        await holder.end();
      } finally {
        await folder.remove();
        await world.close();
      }
    },
  );
});
