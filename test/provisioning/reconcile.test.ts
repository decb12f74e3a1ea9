import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from 'vitest';
import { tenantMarker } from '../../src/provisioning/names.ts';
import { onServer, withDatabase } from '../control-template.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { scriptFailpoints } from './failpoints.ts';
import { isolations } from './isolations.ts';
import {
  connectionString,
  createTenant,
  makeTenant,
  markerOf,
  placeOf,
  type Made,
} from './tenants.ts';
import { tracesOf } from './traces.ts';

interface Finding {
  readonly kind: string;
  readonly cluster: string;
  readonly objectName: string;
  readonly tenantId: string | null;
  readonly detail: string;
  readonly firstSeenAt: string;
}

const often = { RECONCILE_INTERVAL_SECONDS: '1', RECONCILE_GRACE_SECONDS: '0' };
const patient = { timeout: 20_000, interval: 200 };

async function report(gateway: TestGateway): Promise<Finding[]> {
  const document = '{ driftReport { kind cluster objectName tenantId detail firstSeenAt } }';
  const { driftReport } = await gateway.graphql<{ driftReport: Finding[] }>(document);
  return driftReport;
}

/** Waits until clusters were compared once more from beginning to end. */
async function compared(world: World): Promise<void> {
  const count = async (): Promise<number> => {
    const [row] = await world.query<{ at: number }>(
      `SELECT extract(epoch FROM max(finished_at))::float8 AS at FROM control_plane.reconcile_runs`,
    );
    return row?.at ?? 0;
  };
  // The one under way may have begun before whatever is to be found.
  for (let run = 0; run < 2; run += 1) {
    const before = await count();
    await expect.poll(count, patient).toBeGreaterThan(before);
  }
}

describe.each(['superuser', 'limited'] as const)('as a %s', (admin) => {
  const failpoints = scriptFailpoints();
  let world: World;
  let gateway: TestGateway;

  beforeAll(async () => {
    world = await createWorld({ admin });
    gateway = await world.start({ failpoints, settings: often });
  });
  afterEach(() => failpoints.clear());
  afterAll(() => world.close());

  /** As the cluster's admin, by whom all is made. */
  const asAdmin = (sql: string, database?: string): Promise<unknown> =>
    onServer(
      database === undefined ? world.controlUrl : withDatabase(world.controlUrl, database),
      (client) => client.query(sql),
    );

  describe.each(isolations)('$isolation', ({ isolation, named }) => {
    /** A create that was undone, and the names it had. */
    async function undone(name: string) {
      failpoints.fail('verify_connection:before');
      const { operation } = await createTenant(gateway, { name, ...named, isolation });
      failpoints.clear();
      const [row] = await world.query<Record<'tenantId' | 'database' | 'schema' | 'owner', string>>(
        `SELECT d.tenant_id AS "tenantId", d.database_name AS database, d.schema_name AS schema,
                d.owner_role AS owner
         FROM control_plane.tenant_databases d JOIN control_plane.operations o USING (tenant_id)
         WHERE o.id = $1`,
        [operation!.id],
      );
      return { ...row!, operationId: operation!.id };
    }

    test('drops what an undone operation of ours left', async () => {
      const { database, operationId, owner, schema, tenantId } = await undone(
        `Left ${admin} ${isolation}`,
      );
      const marker = await markerOf(world, tenantId, operationId);
      const comment = (what: string) => `COMMENT ON ${what} IS '${marker}'`;
      // As an instance would that stalled, and went on after the undo.
      await asAdmin(`CREATE ROLE "${owner}" NOLOGIN; ${comment(`ROLE "${owner}"`)}`);
      if (isolation === 'DATABASE') {
        await asAdmin(`CREATE DATABASE "${database}"`);
        // Other test files' tenants look for databases with a marker that they could open.
        await asAdmin(`REVOKE ALL ON DATABASE "${database}" FROM PUBLIC`);
        await asAdmin(comment(`DATABASE "${database}"`));
      } else {
        await asAdmin(`CREATE SCHEMA "${schema}"; ${comment(`SCHEMA "${schema}"`)}`, database);
      }
      await expect
        .poll(() => tracesOf(world, operationId), patient)
        .toMatchObject({ places: [], roles: [] });
      await compared(world);
      expect((await report(gateway)).filter((one) => one.tenantId === tenantId)).toEqual([]);
    });

    test.each<[string, boolean]>([
      ['an operation it does not know, of this control plane', true],
      ['another control plane on this server', false],
    ])('drops nothing of %s', async (_whose, ours) => {
      const made = await makeTenant(gateway, { name: `Host ${_whose} ${admin}`, isolation });
      const [tenantId, operationId] = [randomUUID(), randomUUID()];
      const marker = ours
        ? await markerOf(world, tenantId, operationId)
        : tenantMarker(tenantId, operationId, randomUUID());
      const name = `stranger_${tenantId.slice(0, 8)}`;
      const { databaseName } = made.tenant.database;
      const schema = isolation === 'SCHEMA';
      try {
        if (schema) await asAdmin(`CREATE SCHEMA ${name}`, databaseName);
        else await asAdmin(`CREATE DATABASE ${name}`);
        if (!schema) await asAdmin(`REVOKE ALL ON DATABASE ${name} FROM PUBLIC`);
        const what = `${schema ? 'SCHEMA' : 'DATABASE'} ${name}`;
        await asAdmin(`COMMENT ON ${what} IS '${marker}'`, schema ? databaseName : undefined);
        await compared(world);
        const found = (await report(gateway)).filter((one) => one.tenantId === tenantId);
        expect(found.map(({ kind, objectName }) => [kind, objectName])).toEqual(
          ours ? [['ORPHAN', schema ? `${databaseName}.${name}` : name]] : [],
        );
      } finally {
        // Fails when it is gone.
        if (schema) await asAdmin(`DROP SCHEMA ${name}`, databaseName);
        else await asAdmin(`DROP DATABASE ${name}`);
      }
    });
  });
});

describe('driftReport', () => {
  let world: World;
  let gateway: TestGateway;
  beforeAll(async () => {
    world = await createWorld();
    gateway = await world.start({ settings: { ...often, RECONCILE_GRACE_SECONDS: '3600' } });
  });
  afterAll(() => world.close());

  const inDatabase = (database: string, sql: string): Promise<unknown> =>
    onServer(withDatabase(inject('serverUrl'), database), (client) => client.query(sql));

  test('is empty where all is as it should be', async () => {
    for (const { isolation, named } of isolations) {
      await makeTenant(gateway, { name: `Fine ${isolation}`, ...named });
    }
    await compared(world);
    expect(await report(gateway)).toEqual([]);
  });

  const cases: readonly {
    readonly kind: string;
    readonly what: string;
    readonly of: 'place' | 'owner' | 'login';
    readonly isolations?: readonly string[];
    /** SQL that breaks and mends; %place%, %owner%, %login%, %id% stand for the tenant's. */
    readonly break: string;
    readonly mend: string;
  }[] = [
    {
      kind: 'WRONG_GRANTS',
      what: 'PUBLIC has rights',
      of: 'place',
      break: 'GRANT %right% ON %kind% %place% TO PUBLIC',
      mend: 'REVOKE ALL ON %kind% %place% FROM PUBLIC',
    },
    {
      kind: 'WRONG_GRANTS',
      what: 'another role has rights',
      of: 'place',
      break: 'GRANT CREATE ON %kind% %place% TO pg_monitor',
      mend: 'REVOKE ALL ON %kind% %place% FROM pg_monitor',
    },
    {
      kind: 'WRONG_GRANTS',
      what: 'the login may make databases',
      of: 'login',
      break: 'ALTER ROLE %login% CREATEDB',
      mend: 'ALTER ROLE %login% NOCREATEDB',
    },
    {
      kind: 'WRONG_GRANTS',
      what: 'the login may not log in',
      of: 'login',
      break: 'ALTER ROLE %login% NOLOGIN',
      mend: 'ALTER ROLE %login% LOGIN',
    },
    {
      kind: 'WRONG_GRANTS',
      what: 'the login is a member of another role',
      of: 'login',
      break: 'GRANT pg_monitor TO %login%',
      mend: 'REVOKE pg_monitor FROM %login%',
    },
    {
      kind: 'WRONG_OWNER',
      what: 'the tenant owns it',
      of: 'place',
      break: 'ALTER %kind% %place% OWNER TO %owner%',
      mend: 'ALTER %kind% %place% OWNER TO CURRENT_USER; GRANT ALL ON %kind% %place% TO %owner%',
    },
    {
      kind: 'UNMARKED',
      what: 'no marker',
      of: 'place',
      break: 'COMMENT ON %kind% %place% IS NULL',
      mend: "COMMENT ON %kind% %place% IS '%marker%'",
    },
    {
      kind: 'UNMARKED',
      what: 'another marker',
      of: 'owner',
      break: "COMMENT ON ROLE %owner% IS 'mine'",
      mend: "COMMENT ON ROLE %owner% IS '%marker%'",
    },
    {
      kind: 'MISSING',
      what: 'renamed',
      of: 'login',
      break: 'ALTER ROLE %login% RENAME TO not_there',
      mend: 'ALTER ROLE not_there RENAME TO %login%',
    },
    {
      kind: 'MISSING',
      what: 'renamed',
      of: 'place',
      break: 'ALTER %kind% %place% RENAME TO not_there',
      mend: 'ALTER %kind% not_there RENAME TO %place%',
    },
    {
      kind: 'WRONG_VERSION',
      what: 'a migration that is not in the ledger',
      of: 'place',
      break:
        "UPDATE control_plane.tenant_databases SET migration_version = 'x' WHERE tenant_id = '%id%'",
      mend: "UPDATE control_plane.tenant_databases SET migration_version = '20250102000001_create_activity_log' WHERE tenant_id = '%id%'",
    },
    {
      kind: 'HALF_DROPPED',
      what: 'an interrupted drop',
      of: 'place',
      isolations: ['DATABASE'],
      break: "UPDATE pg_database SET datconnlimit = -2 WHERE datname = '%name%'",
      mend: "UPDATE pg_database SET datconnlimit = -1 WHERE datname = '%name%'",
    },
  ];

  describe.each(isolations)('$isolation', ({ isolation, named }) => {
    let made: Made;
    let marker: string;
    beforeAll(async () => {
      made = await makeTenant(gateway, { name: `Drifting ${isolation}`, ...named });
      marker = await markerOf(world, made.tenant.id, made.operation.id);
    });

    test.each(cases.filter((one) => one.isolations?.includes(isolation) ?? true))(
      '$kind: $what; it goes once that is mended',
      async ({ kind, of, break: breaks, mend }) => {
        const { id, database } = made.tenant;
        const [roles] = await world.query<{ owner: string; login: string }>(
          `SELECT owner_role AS owner, login_role AS login FROM control_plane.tenant_databases
           WHERE tenant_id = $1`,
          [id],
        );
        const names: Record<string, string> = {
          id,
          marker,
          kind: isolation,
          right: isolation === 'DATABASE' ? 'TEMPORARY' : 'CREATE',
          name: placeOf(made),
          place: `"${placeOf(made)}"`,
          owner: roles!.owner,
          login: roles!.login,
        };
        const run = (sql: string): Promise<unknown> => {
          const text = sql.replaceAll(/%(\w+)%/g, (_all, name: string) => names[name] ?? '');
          return text.includes('control_plane.')
            ? world.query(text)
            : inDatabase(isolation === 'SCHEMA' ? database.databaseName : 'postgres', text);
        };
        const place =
          isolation === 'SCHEMA' ? `${database.databaseName}.${placeOf(made)}` : placeOf(made);
        const objectName = { place, owner: roles!.owner, login: roles!.login }[of];
        const found = async (): Promise<Finding | undefined> =>
          (await report(gateway)).find((one) => one.kind === kind && one.objectName === objectName);
        await run(breaks);
        try {
          await expect.poll(found, patient).toMatchObject({ tenantId: id, cluster: 'default' });
          if (kind === 'MISSING') {
            // It stays one finding for as long as it is so.
            const first = await found();
            await compared(world);
            expect((await found())?.firstSeenAt).toBe(first?.firstSeenAt);
          }
        } finally {
          await run(mend);
        }
        await expect.poll(() => report(gateway), patient).toEqual([]);
        await onServer(await connectionString(world, id), (client) => client.query('SELECT 1'));
      },
    );
  });

  test('tells of an orphan whose grace period is not over, and leaves it', async () => {
    const failing = scriptFailpoints();
    failing.fail('verify_connection:before');
    const unlucky = await world.start({ failpoints: failing });
    const { operation } = await createTenant(unlucky, { name: 'Young orphan' });
    await unlucky.close();
    const [row] = await world.query<{ id: string; owner: string }>(
      `SELECT d.tenant_id AS id, d.owner_role AS owner FROM control_plane.tenant_databases d
       JOIN control_plane.operations o USING (tenant_id) WHERE o.id = $1`,
      [operation!.id],
    );
    const marker = await markerOf(world, row!.id, operation!.id);
    await world.query(`CREATE ROLE "${row!.owner}"`);
    await world.query(`COMMENT ON ROLE "${row!.owner}" IS '${marker}'`);
    await compared(world);
    expect(await report(gateway)).toMatchObject([
      { kind: 'ORPHAN', objectName: row!.owner, tenantId: row!.id },
    ]);
    // Once it is over, it goes.
    await world.query(
      `UPDATE control_plane.operations SET finished_at = now() - interval '2 hours' WHERE id = $1`,
      [operation!.id],
    );
    await expect.poll(() => report(gateway), patient).toEqual([]);
    expect(await tracesOf(world, operation!.id)).toMatchObject({ roles: [] });
  });

  test('a drop of ours that was interrupted is finished, without waiting', async () => {
    const failing = scriptFailpoints();
    failing.fail('verify_connection:before');
    const unlucky = await world.start({ failpoints: failing });
    const { operation } = await createTenant(unlucky, { name: 'Half gone' });
    await unlucky.close();
    const [row] = await world.query<{ id: string; name: string }>(
      `SELECT d.tenant_id AS id, d.database_name AS name FROM control_plane.tenant_databases d
       JOIN control_plane.operations o USING (tenant_id) WHERE o.id = $1`,
      [operation!.id],
    );
    await world.query(`CREATE DATABASE "${row!.name}"`);
    await world.query(`REVOKE ALL ON DATABASE "${row!.name}" FROM PUBLIC`);
    const marker = await markerOf(world, row!.id, operation!.id);
    await world.query(`COMMENT ON DATABASE "${row!.name}" IS '${marker}'`);
    await world.query(`UPDATE pg_database SET datconnlimit = -2 WHERE datname = $1`, [row!.name]);
    await expect.poll(() => tracesOf(world, operation!.id), patient).toMatchObject({ places: [] });
  });

  test('instances take turns: one comparison an interval, whoever makes it', async () => {
    const others = [await world.start({ settings: often }), await world.start({ settings: often })];
    const begun = Date.now();
    const seen = new Set<string>();
    await expect
      .poll(
        async () => {
          const [run] = await world.query<{ at: string }>(
            'SELECT finished_at::text AS at FROM control_plane.reconcile_runs',
          );
          seen.add(run!.at);
          return seen.size;
        },
        { timeout: 30_000, interval: 50 },
      )
      .toBe(5);
    // Four intervals lie between five ends.
    expect(Date.now() - begun).toBeGreaterThan(3_000);
    for (const other of others) await other.close();
  });
});
