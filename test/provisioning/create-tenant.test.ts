import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { allSteps } from './failpoints.ts';
import {
  asTenant,
  connectionString,
  makeTenant,
  sealedConnection,
  type Made,
} from './tenants.ts';
import { endedEvents, expectOrderly, tracesOf } from './traces.ts';

let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({
    settings: { TENANT_CONNECTION_LIMIT: '3', TENANT_STATEMENT_TIMEOUT_MS: '54321' },
  });
});
afterAll(() => world.close());

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const newestMigration = '20250102000001_create_activity_log';

describe.each([
  {
    naming: 'TENANT_ID',
    input: { name: 'Acme Corp', slug: 'acme-by-id' },
    databaseName: (id: string) => `car_${id.replaceAll('-', '_')}`,
  },
  {
    naming: 'SLUG',
    input: { name: 'Acme Corp', slug: 'acme-by_slug-2', databaseNaming: 'SLUG' },
    databaseName: () => 'dbtools_tenant_acme-by_slug-2',
  },
])('Mutation.createTenant, databaseNaming $naming', ({ input, databaseName }) => {
  let made: Made;

  beforeAll(async () => {
    made = await makeTenant(gateway, input);
  });

  test('answers with the active tenant, its key and the operation that ended', () => {
    expect(made.userErrors).toEqual([]);
    expect(made.tenant).toMatchObject({ name: 'Acme Corp', slug: input.slug, status: 'ACTIVE' });
    expect(made.operation).toMatchObject({ status: 'SUCCEEDED', percent: 100, error: null });
    expect(made.apiKey).toMatch(/^tk_/);
  });

  test('names the database as the naming says, and nothing is left under another name', async () => {
    const { id, database } = made.tenant;
    expect(database.databaseName).toBe(databaseName(id));
    expect((await tracesOf(world, made.operation.id)).databases).toEqual([databaseName(id)]);
  });

  test('makes the tables of the tenant migrations, column by column', async () => {
    const { id } = made.tenant;
    const columns = await asTenant(world, id, (client) =>
      client.query<{ definition: string }>(
        `SELECT format('%s.%s %s%s%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
                  CASE WHEN a.attnotnull THEN ' not null' END,
                  ' default ' || pg_get_expr(d.adbin, d.adrelid)) AS definition
         FROM pg_class c
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
           AND c.relname NOT LIKE 'knex%'
         ORDER BY c.relname, a.attnum`,
      ),
    );
    expect(columns.rows.map((row) => row.definition)).toEqual([
      'activity_log.id uuid not null default gen_random_uuid()',
      'activity_log.action character varying(100) not null',
      'activity_log.entity_type character varying(50)',
      'activity_log.entity_id uuid',
      'activity_log.details jsonb',
      'activity_log.created_at timestamp with time zone not null default CURRENT_TIMESTAMP',
      'settings.key character varying(100) not null',
      'settings.value jsonb not null',
      'settings.updated_at timestamp with time zone not null default CURRENT_TIMESTAMP',
    ]);
    const keys = await asTenant(world, id, (client) =>
      client.query<{ key: string }>(
        `SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) AS key FROM pg_constraint
         WHERE contype = 'p' AND connamespace = 'public'::regnamespace
           AND conrelid::regclass::text NOT LIKE 'knex%' ORDER BY key`,
      ),
    );
    expect(keys.rows.map((row) => row.key)).toEqual([
      'activity_log PRIMARY KEY (id)',
      'settings PRIMARY KEY (key)',
    ]);
  });

  test('keeps the ledger in the database and the version in the registry', async () => {
    const ledger = await asTenant(world, made.tenant.id, (client) =>
      client.query<{ name: string }>('SELECT name FROM knex_migrations ORDER BY id'),
    );
    expect(ledger.rows.map((row) => row.name)).toEqual([
      '20250101000001_create_settings',
      newestMigration,
    ]);
    expect(made.tenant.database.migrationVersion).toBe(newestMigration);
  });

  test('seals the connection string, which logs in as the login role', async () => {
    const { id } = made.tenant;
    const sealed = await sealedConnection(world, id);
    const url = new URL(await connectionString(world, id));
    expect(sealed).toMatch(/^v1\.[0-9a-f]{8}\.[A-Za-z0-9_-]+$/);
    for (const secret of [url.password, url.host, url.username, 'postgres', databaseName(id)]) {
      expect(sealed).not.toContain(secret);
    }
    expect(url.password.length).toBeGreaterThanOrEqual(22); // 128 bits in base64url
    const session = await asTenant(world, id, (client) =>
      client.query<{ database: string; user: string }>(
        'SELECT current_database() AS database, session_user AS user',
      ),
    );
    expect(session.rows).toEqual([{ database: databaseName(id), user: url.username }]);
  });

  test('takes every right on the database from PUBLIC and gives the owner role three', async () => {
    const rights = await world.query<{ right: string }>(
      `SELECT coalesce(grantee.rolname, 'PUBLIC') || ' ' || acl.privilege_type
                || CASE WHEN acl.is_grantable THEN ' grantable' ELSE '' END AS right
       FROM pg_database d CROSS JOIN aclexplode(coalesce(datacl, acldefault('d', datdba))) acl
       LEFT JOIN pg_roles grantee ON grantee.oid = acl.grantee
       WHERE datname = $1 AND acl.grantee <> datdba ORDER BY 1`,
      [databaseName(made.tenant.id)],
    );
    const owner = `own_${made.tenant.id.replaceAll('-', '_')}`;
    expect(rights.map((row) => row.right)).toEqual([
      `${owner} CONNECT`,
      `${owner} CREATE`,
      `${owner} TEMPORARY`,
    ]);
  });

  test('makes an owner role that cannot log in and a login role that can do no more', async () => {
    const flags = await rolesOf(made.tenant.id);
    const none = {
      rolsuper: false,
      rolcreatedb: false,
      rolcreaterole: false,
      rolreplication: false,
      rolbypassrls: false,
      rolinherit: true,
    };
    const [owner, login] = flags;
    expect(owner).toMatchObject({ ...none, rolcanlogin: false, memberOf: [], rolconfig: null });
    expect(login).toMatchObject({
      ...none,
      rolcanlogin: true,
      rolconnlimit: 3,
      memberOf: [owner?.rolname],
    });
    expect(login?.rolconfig?.toSorted()).toEqual([
      'idle_in_transaction_session_timeout=10min',
      `role=${owner?.rolname ?? ''}`,
      'statement_timeout=54321',
    ]);
    const [login2] = await world.query<{ verifier: string }>(
      'SELECT rolpassword AS verifier FROM pg_authid WHERE rolname = $1',
      [login?.rolname],
    );
    expect(login2?.verifier).toMatch(/^SCRAM-SHA-256\$/);
  });

  test('has its limits in force', async () => {
    const { id } = made.tenant;
    const settings = await asTenant(world, id, (client) =>
      client.query(
        `SELECT current_setting('statement_timeout') AS statement,
                current_setting('idle_in_transaction_session_timeout') AS idle,
                current_user::text = $1 AS "worksAsOwner"`,
        [`own_${id.replaceAll('-', '_')}`],
      ),
    );
    expect(settings.rows).toEqual([{ statement: '54321ms', idle: '10min', worksAsOwner: true }]);
    const fourth = asTenant(world, id, () =>
      asTenant(world, id, () => asTenant(world, id, () => asTenant(world, id, async () => {}))),
    );
    await expect(fourth).rejects.toMatchObject({ code: '53300' });
  });

  test('marks what it made with ids and nothing else', async () => {
    const { id } = made.tenant;
    const markers = await world.query<{ marker: string }>(
      `SELECT shobj_description(oid, 'pg_database') AS marker FROM pg_database WHERE datname = $1
       UNION ALL SELECT shobj_description(oid, 'pg_authid') FROM pg_roles
       WHERE rolname IN (SELECT unnest(ARRAY[owner_role, login_role])
                         FROM control_plane.tenant_databases WHERE tenant_id = $2)`,
      [databaseName(id), id],
    );
    expect(markers.map((row) => row.marker)).toEqual(
      Array(3).fill(`tenantry:1:tenant:${id}:${made.operation.id}`),
    );
  });

  test('tells every step in order, 100 percent only at the end', async () => {
    const rows = await endedEvents(world, made.operation.id);
    expectOrderly(rows);
    expect(rows.map((row) => `${row.step} ${row.status}`)).toEqual(
      allSteps.flatMap((step) => [`${step} STARTED`, `${step} SUCCEEDED`]),
    );
    expect(made.operation.steps).toEqual(
      allSteps.map((name) => ({ name, status: 'SUCCEEDED', attempts: 1 })),
    );
  });

  test('keeps the API key as a hash, and nothing secret of the operation', async () => {
    const key = made.apiKey ?? '';
    const rows = await world.query<{ hash: Buffer; row: string; active: boolean }>(
      `SELECT hash, to_jsonb(k)::text AS row, activated_at IS NOT NULL AS active
       FROM control_plane.api_keys k WHERE tenant_id = $1`,
      [made.tenant.id],
    );
    expect(rows.map((row) => row.hash)).toEqual([createHash('sha256').update(key).digest()]);
    expect(rows[0]).toMatchObject({ active: true });
    expect(rows[0]?.row).not.toContain(key);
    expect(made.tenant.apiKeys).toHaveLength(1);
    expect(key.startsWith(made.tenant.apiKeys[0]?.prefix ?? '?')).toBe(true);
    expect(await tracesOf(world, made.operation.id)).toMatchObject({
      secrets: null,
      openJobs: 0,
      databaseStatus: 'PROVISIONED',
    });
  });

  test('writes two audit rows', async () => {
    const rows = await world.query(
      `SELECT actor, partner, action, from_status, to_status, outcome, ip_address, request_id
       FROM control_plane.audit_log WHERE tenant_id = $1 ORDER BY id`,
      [made.tenant.id],
    );
    const both = { partner: 'platform', request_id: expect.stringMatching(uuid) as string };
    expect(rows).toMatchObject([
      { ...both, action: 'createTenant', from_status: null, to_status: 'PROVISIONING' },
      { ...both, action: 'activateTenant', from_status: 'PROVISIONING', to_status: 'ACTIVE' },
    ]);
    expect(rows).toMatchObject([{ outcome: 'ACCEPTED' }, { outcome: 'SUCCEEDED' }]);
  });
});

interface RoleRow {
  readonly rolname: string;
  readonly rolcanlogin: boolean;
  readonly rolconfig: readonly string[] | null;
}

/** The owner role and the login role, in this order. */
function rolesOf(tenantId: string): Promise<RoleRow[]> {
  return world.query<RoleRow>(
    `SELECT r.rolname, r.rolcanlogin, r.rolsuper, r.rolcreatedb, r.rolcreaterole, r.rolreplication,
            r.rolbypassrls, r.rolinherit, r.rolconnlimit, r.rolconfig,
            ARRAY(SELECT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
                  WHERE m.member = r.oid) AS "memberOf"
     FROM pg_roles r JOIN control_plane.tenant_databases d
       ON r.rolname IN (d.owner_role, d.login_role)
     WHERE d.tenant_id = $1 ORDER BY r.rolcanlogin`,
    [tenantId],
  );
}
