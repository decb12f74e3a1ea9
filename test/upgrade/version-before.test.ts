import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest';
import { runCli } from '../cli/run.ts';
import { onServer, withDatabase } from '../control-template.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { isolations } from '../provisioning/isolations.ts';
import { asTenant, makeTenant } from '../provisioning/tenants.ts';
import { restoreVersionBefore, versionBefore } from './restore.ts';

interface Place {
  readonly id: string;
  readonly slug: string;
  readonly database: string;
  readonly schema: string | null;
  readonly owner: string;
  readonly login: string;
  readonly service: string;
  readonly deleted: boolean;
}

const patient = { timeout: 60_000, interval: 300 };

describe.each(['superuser', 'limited'] as const)('an installation of 0.1.0, as a %s', (admin) => {
  let world: World;
  let gateway: TestGateway;
  let places: readonly Place[];
  let group: string;

  beforeAll(async () => {
    await restoreVersionBefore(inject('serverUrl'), admin);
    world = await createWorld({ admin, existing: versionBefore });
    gateway = await world.start({
      settings: {
        RECONCILE_INTERVAL_SECONDS: '1',
        STANDBY_DATABASES: '1',
        STANDBY_SCHEMAS: '1',
      },
    });
    places = await world.query<Place>(
      `SELECT t.id, slug, database_name AS database, schema_name AS schema, owner_role AS owner,
         login_role AS login, 'svc_' || replace(t.id::text, '-', '_') AS service,
         t.status = 'DELETED' AS deleted
       FROM control_plane.tenants t JOIN control_plane.tenant_databases d ON d.tenant_id = t.id
       ORDER BY slug`,
    );
    await vi.waitFor(async () => {
      const old = 'SELECT FROM control_plane.tenant_databases WHERE role_layout = 0';
      expect(await world.query(old)).toEqual([]);
    }, patient);
    const [shared] = await world.query<{ group: string }>(
      'SELECT group_role AS group FROM control_plane.shared_databases',
    );
    group = shared!.group;
  });
  afterAll(async () => {
    await world.query(`REVOKE CONNECT ON DATABASE postgres FROM ${versionBefore.role}`);
    await world.close();
  });

  test('all tenants have a service login that is closed, and works as their owner', async () => {
    expect(places.map(({ slug }) => slug)).toEqual([
      'by-id',
      'by-slug',
      'deleted',
      'deleted-schema',
      'in-schema',
      'named',
      'of-a-subject',
    ]);
    const logins = () =>
      world.query<{ service: string }>(
        `SELECT r.rolname AS service, rolcanlogin AS open, rolconfig[1] AS works,
         ARRAY(SELECT roleid::regrole::text FROM pg_auth_members WHERE member = r.oid) AS "memberOf"
       FROM pg_roles r WHERE rolname = ANY ($1)
       ORDER BY array_position($1::text[], rolname::text)`,
        [places.map(({ service }) => service)],
      );
    const expected = places.map(({ owner, service }) => ({
      service,
      open: false,
      works: `role=${owner}`,
      memberOf: [owner],
    }));
    // One is open for the moment in which recovery uses it.
    await expect.poll(logins).toEqual(expected);
  });

  test('search paths have the extensions schema', async () => {
    for (const { login, schema } of places) {
      const [path] = await world.query<{ path: string }>(
        `SELECT setting AS path FROM pg_roles, unnest(rolconfig) AS setting
         WHERE rolname = $1 AND setting LIKE 'search_path=%'`,
        [login],
      );
      const own = schema === 'Named_Schema' ? '"Named_Schema"' : (schema ?? 'public');
      expect(path).toEqual({ path: `search_path=${own}, extensions` });
    }
  });

  test('the right to connect to the shared database is the group’s alone', async () => {
    const rights = () =>
      world.query(
        `SELECT grantee::regrole::text AS who, privilege_type AS right
       FROM pg_database, aclexplode(datacl)
       WHERE datname = $1 AND grantee <> datdba ORDER BY 2`,
        [versionBefore.sharedDatabase],
      );
    await expect.poll(rights, patient).toEqual([
      { who: group, right: 'CONNECT' },
      { who: group, right: 'TEMPORARY' },
    ]);
    for (const { owner } of places.filter(({ schema }) => schema !== null)) {
      const [member] = await world.query(
        'SELECT FROM pg_auth_members WHERE roleid = $1::regrole AND member = $2::regrole',
        [group, owner],
      );
      expect(member, owner).toBeDefined();
    }
  });

  test('nothing in a copied database refers to a template’s role', async () => {
    for (const { database } of places.filter(({ schema }) => schema === null)) {
      const { rows } = await onServer(withDatabase(inject('serverUrl'), database), (client) =>
        client.query<{ what: string }>(
          `SELECT pg_describe_object(d.classid, d.objid, d.objsubid) AS what
           FROM pg_shdepend d JOIN pg_database b ON b.oid = d.dbid
           WHERE datname = current_database() AND d.refclassid = 'pg_authid'::regclass
             AND d.refobjid IN (SELECT oid FROM pg_roles WHERE rolname LIKE 'tpo\\_%')`,
        ),
      );
      expect(rows).toEqual([]);
    }
  });

  test('each tenant is healthy, with what it had; the deleted ones are still shut out', async () => {
    for (const { deleted, id, slug } of places) {
      if (deleted) {
        await expect(asTenant(world, id, async () => {})).rejects.toMatchObject({ code: '28000' });
        continue;
      }
      const { tenant } = await gateway.graphql(
        `query ($id: ID!) { tenant(id: $id) { slug database { health { status error } } } }`,
        { id },
      );
      expect(tenant).toEqual({ slug, database: { health: { status: 'HEALTHY', error: null } } });
      if (slug !== 'by-id' && slug !== 'in-schema') continue;
      const { rows } = await asTenant(world, id, (client) => client.query('SELECT * FROM kept'));
      expect(rows).toEqual([{ answer: 42 }]);
    }
  });

  test('tenants are made, out of the places that were ahead too, and deleted; nothing differs', async () => {
    for (const { isolation, named } of isolations) {
      for (const number of [1, 2]) {
        const slug = `new-${isolation.toLowerCase()}-${String(number)}`;
        const made = await makeTenant(gateway, { name: 'New', slug, ...named });
        await asTenant(world, made.tenant.id, (client) => client.query('SELECT * FROM settings'));
      }
    }
    for (const slug of ['by-slug', 'named']) {
      const { id } = places.find((one) => one.slug === slug)!;
      const { deleteTenant } = await gateway.graphql<{ deleteTenant: object }>(
        `mutation ($id: ID!) { deleteTenant(input: { id: $id }) {
           operation { status } userErrors { message } } }`,
        { id },
      );
      expect(deleteTenant).toEqual({ operation: { status: 'SUCCEEDED' }, userErrors: [] });
    }
    const findings = async () =>
      (
        await gateway.graphql<{ driftReport: object[] }>(
          '{ driftReport { kind objectName detail } }',
        )
      ).driftReport;
    await expect.poll(findings, patient).toEqual([]);
  });

  test('partners keep their names, and can be renamed', async () => {
    const partnerOf = () =>
      world.query(`SELECT partner FROM control_plane.tenants WHERE slug = 'of-a-subject'`);
    expect(await partnerOf()).toEqual([{ partner: 'acme' }]);
    const { code, stderr } = await runCli(
      'rename-partner',
      { DATABASE_URL: world.controlUrl, ENCRYPTION_KEY: world.encryptionKey, AUTH_MODE: 'open' },
      ['acme', 'sub:acme'],
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(await partnerOf()).toEqual([{ partner: 'sub:acme' }]);
  });
});
