import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { onServer, withDatabase } from '../control-template.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { asTenant, makeTenant, markerOf, type Made } from './tenants.ts';

let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({
    settings: { TENANT_CONNECTION_LIMIT: '3', TENANT_STATEMENT_TIMEOUT_MS: '54321' },
  });
});
afterAll(() => world.close());

describe.each([
  { isolation: 'DATABASE', databaseNaming: 'TENANT_ID', slug: 'roles-by-id' },
  { isolation: 'DATABASE', databaseNaming: 'SLUG', slug: 'roles-by-slug' },
  { isolation: 'SCHEMA', slug: 'roles-by-schema' },
  { isolation: 'SCHEMA', slug: 'roles-by-schema-2', schemaName: 'Roles_2' },
])('Mutation.createTenant, %j', (input) => {
  const inSchema = input.isolation === 'SCHEMA';
  let made: Made;
  let databaseName: string;

  beforeAll(async () => {
    made = await makeTenant(gateway, { name: 'Acme', ...input });
    ({ databaseName } = made.tenant.database);
  });

  test('takes every right on the database from PUBLIC and gives it to the owner role, or its group', async () => {
    const rights = await world.query<{ right: string }>(
      `SELECT coalesce(grantee.rolname, 'PUBLIC') || ' ' || acl.privilege_type
                || CASE WHEN acl.is_grantable THEN ' grantable' ELSE '' END AS right
       FROM pg_database d CROSS JOIN aclexplode(coalesce(datacl, acldefault('d', datdba))) acl
       LEFT JOIN pg_roles grantee ON grantee.oid = acl.grantee
       WHERE datname = $1 AND acl.grantee <> datdba ORDER BY 1`,
      [databaseName],
    );
    const owner = `own_${made.tenant.id.replaceAll('-', '_')}`;
    expect(rights.map((row) => row.right)).toEqual(
      inSchema
        ? [`${await group()} CONNECT`, `${await group()} TEMPORARY`]
        : [`${owner} CONNECT`, `${owner} CREATE`, `${owner} TEMPORARY`],
    );
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
    expect(owner).toMatchObject({
      ...none,
      rolcanlogin: false,
      memberOf: inSchema ? [await group()] : [],
      rolconfig: null,
    });
    expect(login).toMatchObject({
      ...none,
      rolcanlogin: true,
      rolconnlimit: 3,
      memberOf: [owner?.rolname],
    });
    const { schemaName } = made.tenant.database;
    expect(login?.rolconfig?.toSorted()).toEqual([
      'idle_in_transaction_session_timeout=10min',
      `role=${owner?.rolname ?? ''}`,
      `search_path=${schemaName === 'Roles_2' ? '"Roles_2"' : (schemaName ?? 'public')}, extensions`,
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
    const roles = (await rolesOf(id)).map(({ rolname }) => rolname);
    const { rows: markers } = await onServer(
      withDatabase(inject('serverUrl'), databaseName),
      (client) =>
        client.query<{ marker: string }>(
          `SELECT shobj_description(oid, 'pg_database') AS marker FROM pg_database
           WHERE datname = $1 AND $2::text IS NULL
           UNION ALL SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace
           WHERE nspname = $2
           UNION ALL SELECT shobj_description(oid, 'pg_authid') FROM pg_roles
           WHERE rolname = ANY ($3)`,
          [databaseName, made.tenant.database.schemaName, roles],
        ),
    );
    expect(markers.map((row) => row.marker)).toEqual(
      Array(3).fill(await markerOf(world, id, made.operation.id)),
    );
  });
});

interface RoleRow {
  readonly rolname: string;
  readonly rolcanlogin: boolean;
  readonly rolconfig: readonly string[] | null;
}

/** The group that may connect to the shared database. */
async function group(): Promise<string> {
  const [row] = await world.query<{ name: string }>(
    'SELECT group_role AS name FROM control_plane.shared_databases',
  );
  return row!.name;
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
