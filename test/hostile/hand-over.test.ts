import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findUnmovable } from '../../src/postgres/hand-over.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { freshName, openAdmin } from '../postgres/admin.ts';
import { isolations } from '../provisioning/isolations.ts';
import { makeMigrationFolder, type MigrationFolder } from '../provisioning/migration-folders.ts';
import { asTenant, makeTenant } from '../provisioning/tenants.ts';

/** What an ordinary migration may leave behind that is more than an owner. */
const everything = `
  CREATE TABLE settings (); CREATE TABLE activity_log ();
  CREATE TABLE guarded (owner name DEFAULT current_user);
  ALTER TABLE guarded ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
  CREATE POLICY mine ON guarded TO CURRENT_USER USING (owner = current_user);
  CREATE POLICY everybody ON guarded AS RESTRICTIVE TO PUBLIC USING (true);
  CREATE FUNCTION answer() RETURNS int LANGUAGE sql AS 'SELECT 42';
  REVOKE ALL ON FUNCTION answer() FROM PUBLIC;
  GRANT SELECT (owner) ON guarded TO PUBLIC;
  CREATE TYPE mood AS ENUM ('fine');
  CREATE MATERIALIZED VIEW moods AS SELECT 'fine'::mood AS mood;
  ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
  ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC`;
// In a shared database a migration must not name the schema it runs in.
const inPublic = `; ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE ON SEQUENCES TO PUBLIC`;

interface Found {
  readonly policies: unknown[];
  readonly defaults: unknown[];
  readonly mine: number;
  readonly table: string | null;
  readonly function: string | null;
}

describe.each(['superuser', 'limited'] as const)('as a %s', (admin) => {
  let world: World;
  let gateway: TestGateway;
  let folder: MigrationFolder;

  beforeAll(async () => {
    world = await createWorld({ admin });
    folder = await makeMigrationFolder();
    await folder.write('001_everything', everything);
    gateway = await world.start({ settings: { TENANT_MIGRATIONS_DIR: folder.path } });
  });
  afterAll(async () => {
    await world.close();
    await folder.remove();
  });

  /** What the tenant has, with the name of its own role left out. */
  async function look(client: pg.Client): Promise<Found> {
    const own = "replace(%s::text, quote_ident(current_user), 'OWNER')";
    const masked = (text: string): string => own.replace('%s', text);
    await client.query('CREATE TABLE later (); CREATE FUNCTION hers() RETURNS int RETURN 1');
    await client.query('INSERT INTO guarded DEFAULT VALUES');
    const { rows } = await client.query<Found>(
      `SELECT
         ARRAY(SELECT polname::text || ' ' || ${masked('polroles::regrole[]')} FROM pg_policy ORDER BY 1)
           AS policies,
         ARRAY(SELECT defaclobjtype::text || ' ' || ${masked('defaclacl')} FROM pg_default_acl
           WHERE defaclrole = current_user::regrole ORDER BY 1) AS defaults,
         (SELECT count(*)::int FROM guarded) AS mine,
         (SELECT ${masked('relacl')} FROM pg_class WHERE oid = 'later'::regclass) AS "table",
         (SELECT ${masked('proacl')} FROM pg_proc WHERE oid = 'hers()'::regprocedure) AS "function"`,
    );
    return rows[0]!;
  }

  test.each(isolations)(
    '$isolation: all is the tenant’s own, whatever it was made from',
    async (kind) => {
      const { tenant } = await makeTenant(gateway, { name: 'Heir', isolation: kind.isolation });
      const found = await asTenant(world, tenant.id, look);
      expect(found).toEqual({
        policies: ['everybody {-}', 'mine {OWNER}'],
        defaults: ['f {OWNER=X/OWNER}', expect.stringMatching(/^r \{.*=r\/OWNER.*\}$/)],
        mine: 1,
        table: expect.stringContaining('=r/OWNER') as string,
        function: '{OWNER=X/OWNER}',
      });
      const references = await world.query(
        `SELECT rolname FROM pg_shdepend JOIN pg_roles r ON r.oid = refobjid
       JOIN pg_database d ON d.oid = dbid WHERE datname = $1
         AND rolname ~ '^(tpo|tps|svc)_' AND refclassid = 'pg_authid'::regclass`,
        [tenant.database.databaseName],
      );
      expect(references).toEqual([]);
    },
  );

  test('default privileges of one schema are the tenant’s own, too', async () => {
    await folder.write('002_public', `SELECT 1 ${inPublic}`);
    const later = await world.start({
      settings: { TENANT_MIGRATIONS_DIR: folder.path, STANDBY_SCHEMAS: '0' },
    });
    const { tenant } = await makeTenant(later, { name: 'Heir of a schema' });
    const { rows } = await asTenant(world, tenant.id, async (client) => {
      await client.query('CREATE SEQUENCE numbers');
      return client.query<{ granted: boolean }>(
        `SELECT EXISTS (SELECT FROM pg_class, aclexplode(relacl) a WHERE relname = 'numbers'
           AND a.grantee = 0 AND a.privilege_type = 'USAGE') AS granted`,
      );
    });
    expect(rows).toEqual([{ granted: true }]);
    await later.close();
  });
});

test('what belongs to a role and cannot be handed over is found', async () => {
  const client = await openAdmin();
  const role = freshName('role');
  const database = freshName();
  await client.query(`CREATE ROLE ${role}`);
  await client.query(`CREATE DATABASE ${database}`);
  const inside = await openAdmin(database);
  await inside.query(`CREATE TABLE t (); ALTER TABLE t OWNER TO ${role}`);
  expect(await findUnmovable(inside, role)).toBeNull();
  await inside.query(`CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;
    CREATE USER MAPPING FOR ${role} SERVER s`);
  expect(await findUnmovable(inside, role)).toContain('user mapping');
  await inside.end();
  await client.query(`DROP DATABASE ${database} WITH (FORCE)`);
  await client.query(`DROP ROLE ${role}`);
  await client.end();
});
