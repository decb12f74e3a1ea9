import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import pg from 'pg';
import { withDatabase } from '../control-template.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { isolations } from '../provisioning/isolations.ts';
import { makeTenant, type Made } from '../provisioning/tenants.ts';
import { evidence, expectNoEscalation, schemaOf, spoil, trapFunctions } from './trap.ts';

interface Finding {
  readonly kind: string;
  readonly tenantId: string | null;
  readonly detail: string;
}

const patient = { timeout: 30_000, interval: 200 };

describe.each(['superuser', 'limited'] as const)('as a %s', (admin) => {
  let world: World;
  let gateway: TestGateway;

  beforeAll(async () => {
    world = await createWorld({ admin });
    gateway = await world.start({
      settings: { RECONCILE_INTERVAL_SECONDS: '1', RECONCILE_GRACE_SECONDS: '0' },
    });
  });
  afterAll(() => world.close());

  async function findings(tenantId: string): Promise<Finding[]> {
    const { driftReport } = await gateway.graphql<{ driftReport: Finding[] }>(
      '{ driftReport { kind tenantId detail } }',
    );
    return driftReport.filter((finding) => finding.tenantId === tenantId);
  }

  /** Waits until the ledger of a tenant, which says something else than the registry, was read. */
  async function ledgerRead(made: Made): Promise<Finding> {
    await expect
      .poll(async () => (await findings(made.tenant.id)).map(({ kind }) => kind), patient)
      .toContain('WRONG_VERSION');
    return (await findings(made.tenant.id)).find(({ kind }) => kind === 'WRONG_VERSION')!;
  }

  async function lookInto<T>(made: Made, work: (client: pg.Client) => Promise<T>): Promise<T> {
    const client = new pg.Client(
      withDatabase(inject('serverUrl'), made.tenant.database.databaseName),
    );
    await client.connect();
    try {
      return await work(client);
    } finally {
      await client.end();
    }
  }

  async function health(made: Made) {
    const { tenantHealth } = await gateway.graphql<{
      tenantHealth: { status: string; error: string | null; migrationVersion: string | null }[];
    }>('query ($ids: [ID!]) { tenantHealth(ids: $ids) { status error migrationVersion } }', {
      ids: [made.tenant.id],
    });
    return tenantHealth[0]!;
  }

  const traps: readonly [string, string][] = [
    [
      'an index expression on the ledger',
      `CREATE INDEX ON knex_migrations ((trap(name))); DELETE FROM knex_migrations WHERE id = 2`,
    ],
    [
      'a view in place of the ledger',
      `ALTER TABLE knex_migrations RENAME TO was;
       CREATE VIEW knex_migrations AS SELECT id + trap(id) AS id, name, batch, migration_time
         FROM was WHERE trap(name) = 1 AND id = 1`,
    ],
    [
      'a policy on the ledger',
      `ALTER TABLE knex_migrations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
       CREATE POLICY p ON knex_migrations USING (trap(id) = 1 AND id = 1)`,
    ],
    [
      'a name of a type with a cast of its own',
      `CREATE TYPE odd AS (name text);
       CREATE FUNCTION shown(odd) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
         'BEGIN PERFORM %schema%.spring(); RETURN $1.name; END';
       CREATE CAST (odd AS text) WITH FUNCTION shown(odd) AS IMPLICIT;
       ALTER TABLE knex_migrations ALTER name TYPE odd USING row(name)::odd;
       DELETE FROM knex_migrations WHERE id = 2`,
    ],
    [
      'operators of the kind that catalogs are compared with',
      `CREATE FUNCTION same(oid, int4) RETURNS bool LANGUAGE sql IMMUTABLE AS
         'SELECT %schema%.trap(1) = 1';
       CREATE FUNCTION same(oid, regclass) RETURNS bool LANGUAGE sql IMMUTABLE AS
         'SELECT %schema%.trap(1) = 1';
       CREATE FUNCTION same(name, text) RETURNS bool LANGUAGE sql IMMUTABLE AS
         'SELECT %schema%.trap(1) = 1';
       CREATE OPERATOR = (function = same, leftarg = oid, rightarg = int4);
       CREATE OPERATOR = (function = same, leftarg = oid, rightarg = regclass);
       CREATE OPERATOR = (function = same, leftarg = name, rightarg = text);
       DELETE FROM knex_migrations WHERE id = 2`,
    ],
  ];

  const cases = isolations.flatMap(({ isolation }) =>
    traps.map(([what, sql]) => [isolation, what, sql] as const),
  );

  test.each(cases)('%s: %s runs with no rights but the tenant’s', async (isolation, what, sql) => {
    const made = await makeTenant(gateway, { name: `Trap ${what}`, isolation });
    await spoil(world, made, `${trapFunctions}; ${sql}`);
    await ledgerRead(made);
    await health(made);
    await gateway.graphql('query ($id: ID!) { tenant(id: $id) { database { sizeBytes } } }', {
      id: made.tenant.id,
    });
    const id = made.tenant.id.replaceAll('-', '_');
    const names = await lookInto(made, (client) => evidence(client, made));
    for (const name of names) expect(name).toMatch(new RegExp(`^((own|svc)_${id}|usr_.*)$`));
    await expectNoEscalation(world, made);
  });

  test.each(isolations)('$isolation: a row of many megabytes is cut where it is', async (kind) => {
    const made = await makeTenant(gateway, { name: 'Large', isolation: kind.isolation });
    await spoil(
      world,
      made,
      `ALTER TABLE knex_migrations ALTER name TYPE text;
       UPDATE knex_migrations SET name = chr(27) || '[31m' || repeat('x', 30000000) WHERE id = 2`,
    );
    const { detail } = await ledgerRead(made);
    expect(detail.length).toBeLessThan(400);
    expect(detail).toContain(String.raw`is at \u{1b}[31mxxx`);
    const { error, migrationVersion } = await health(made);
    expect(`${error ?? ''}${migrationVersion ?? ''}`.length).toBeLessThan(700);
  });

  test.each(isolations)('$isolation: errors and notices without end are cut', async (kind) => {
    const made = await makeTenant(gateway, { name: 'Loud', isolation: kind.isolation });
    await spoil(
      world,
      made,
      `CREATE FUNCTION shout() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
         FOR i IN 1..100 LOOP RAISE WARNING '%', repeat('x', 1000000); END LOOP;
         RAISE EXCEPTION '%', repeat('y', 10000000); END $$;
       ALTER TABLE knex_migrations RENAME TO was;
       CREATE VIEW knex_migrations AS SELECT 1 AS id, shout() AS name`,
    );
    expect(await health(made)).toMatchObject({ status: 'ERROR', error: 'Its answer is too large' });
    const other = await makeTenant(gateway, { name: 'Quiet', isolation: kind.isolation });
    expect(await health(other)).toMatchObject({ status: 'HEALTHY' });
    expect(schemaOf(other)).not.toBe('');
  });

  test('service logins cannot log in, and have no password, while they are not in use', async () => {
    // Those of this control plane: other tests' are in use on this server, too.
    const roles = () =>
      world.query(
        `WITH own AS (SELECT 'svc_' || replace(tenant_id::text, '-', '_') AS name
                        FROM control_plane.tenant_databases
                      UNION SELECT 'tps_' || replace(id::text, '-', '_') FROM control_plane.templates)
         SELECT rolname FROM pg_authid JOIN own ON name = rolname
         WHERE rolcanlogin OR rolpassword IS NOT NULL`,
      );
    await expect.poll(roles).toEqual([]);
  });
});
