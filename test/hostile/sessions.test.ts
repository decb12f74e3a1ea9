import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type World } from '../harness.ts';
import { isolations } from '../provisioning/isolations.ts';
import { createTenant, makeTenant } from '../provisioning/tenants.ts';

/** Settings that an operator may have given a role or a database, for other programs. */
const settings: Readonly<Record<string, string>> = {
  search_path: 'somewhere, public',
  DateStyle: 'German',
  IntervalStyle: 'iso_8601',
  TimeZone: 'Asia/Kathmandu',
  client_encoding: 'LATIN1',
  extra_float_digits: '-10',
  default_transaction_isolation: 'serializable',
  default_transaction_deferrable: 'on',
  row_security: 'off',
  bytea_output: 'escape',
  synchronous_commit: 'off',
  default_table_access_method: 'nothing',
  default_tablespace: 'nowhere',
  statement_timeout: '1',
  lock_timeout: '1',
  idle_in_transaction_session_timeout: '1',
  idle_session_timeout: '1',
  jit: 'on',
  quote_all_identifiers: 'on',
};
// The test itself works in the database: there, what ends a session leaves it its time.
const seconds = new Map([
  ['statement_timeout', '4s'],
  ['lock_timeout', '4s'],
  ['idle_in_transaction_session_timeout', '4s'],
  ['idle_session_timeout', '2min'],
  ['transaction_timeout', '4s'],
  ['client_encoding', 'UTF8'],
  ['default_transaction_deferrable', 'off'],
]);
const sometimes = [
  { since: 16, name: 'createrole_self_grant', value: 'set, inherit' },
  { since: 17, name: 'transaction_timeout', value: '300' },
];

describe.each(['ROLE', 'DATABASE'] as const)('settings by ALTER %s … SET', (what) => {
  let world: World;
  beforeAll(async () => {
    world = await createWorld({ admin: 'limited' });
  });
  afterAll(() => world.close());

  test('change nothing: a gateway starts, and creates, reads and deletes tenants', async () => {
    const url = new URL(world.controlUrl);
    const name = what === 'ROLE' ? url.username : url.pathname.slice(1);
    const [server] = await world.query<{ version: number }>(
      `SELECT current_setting('server_version_num')::int / 10000 AS version`,
    );
    const all = {
      ...settings,
      ...Object.fromEntries(
        sometimes
          .filter(({ since }) => server!.version >= since)
          .map((one) => [one.name, one.value]),
      ),
    };
    // What is checked when it is set is set as a placeholder for what a server may have by other ways.
    for (const [setting, forRole] of Object.entries(all)) {
      const value = what === 'ROLE' ? forRole : (seconds.get(setting) ?? forRole);
      await world
        .query(
          `ALTER ${what} "${name}" SET ${setting} = ${value.includes(',') ? value : `'${value}'`}`,
        )
        .catch(() => undefined);
    }
    if (what === 'ROLE') {
      await world.query(`CREATE ROLE "${name}_other"; GRANT "${name}_other" TO "${name}"`);
      await world.query(`ALTER ROLE "${name}" SET role = '${name}_other'`);
    }
    const gateway = await world.start({ settings: { RECONCILE_INTERVAL_SECONDS: '1' } });
    for (const { isolation } of isolations) {
      const made = await Promise.all(
        [1, 2, 3, 4].map((number) =>
          makeTenant(gateway, { name: `Pinned ${isolation} ${number}`, isolation }),
        ),
      );
      const { tenant } = await gateway.graphql<{ tenant: Record<string, unknown> }>(
        `query ($id: ID!) { tenant(id: $id) { createdAt database { sizeBytes health { status } } } }`,
        { id: made[0]!.tenant.id },
      );
      expect(tenant).toMatchObject({ database: { health: { status: 'HEALTHY' } } });
      const { deleteTenant } = await gateway.graphql<{ deleteTenant: { userErrors: unknown[] } }>(
        `mutation ($id: ID!) { deleteTenant(input: { id: $id }) { userErrors { code message } } }`,
        { id: made[0]!.tenant.id },
      );
      expect(deleteTenant.userErrors).toEqual([]);
    }
    await gateway.close();
    if (what === 'ROLE') {
      await world.query(`ALTER ROLE "${name}" RESET role`);
      await world.query(`DROP ROLE "${name}_other"`);
    }
  });
});

describe('CreateTenantInput.schemaName', () => {
  let world: World;
  beforeAll(async () => {
    world = await createWorld({ admin: 'limited' });
  });
  afterAll(() => world.close());

  test('is never the name of a role, or of a schema that others look things up in', async () => {
    const gateway = await world.start();
    const admin = new URL(world.controlUrl).username;
    const names = [admin, 'tenantry', 'Tenantry_Admin', 'tenantry_x', 'extensions', 'Extensions'];
    const ids = '00000000_0000_4000_8000_000000000000';
    for (const schemaName of [...names, `own_${ids}`, `svc_${ids}`, `tpo_${ids}`]) {
      const { userErrors } = await createTenant(gateway, {
        name: 'Named like a role',
        isolation: 'SCHEMA',
        schemaName,
      });
      expect(userErrors).toMatchObject([{ code: 'INVALID', field: ['input', 'schemaName'] }]);
      const { createTenantsBatch } = await gateway.graphql<{
        createTenantsBatch: { batch: { results: { userErrors: { code: string }[] }[] } };
      }>(
        `mutation ($schemaName: String!) { createTenantsBatch(input: { tenants: [
           { name: "In a batch", isolation: SCHEMA, schemaName: $schemaName }] }) {
           batch { results { userErrors { code } } } } }`,
        { schemaName },
      );
      expect(createTenantsBatch.batch.results).toMatchObject([
        { userErrors: [{ code: 'INVALID' }] },
      ]);
    }
    await gateway.close();
  });

  test('a generated name of a role is found out by the step, and undone', async () => {
    await world.query('CREATE ROLE tenant_like_a_role');
    const gateway = await world.start();
    const { operation, userErrors } = await createTenant(gateway, {
      name: 'Like a role',
      slug: 'like-a-role',
      isolation: 'SCHEMA',
    });
    expect(userErrors).toMatchObject([
      {
        code: 'PROVISIONING_FAILED',
        message: expect.stringContaining('a role of the cluster') as string,
      },
    ]);
    expect(operation?.status).toBe('COMPENSATED');
    await gateway.close();
    await world.query('DROP ROLE tenant_like_a_role');
  });
});
