import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import { openCluster, type Cluster } from '../../src/postgres/cluster.ts';
import { describeHolders } from '../../src/postgres/role-holders.ts';
import { removeRoles } from '../../src/provisioning/role-removal.ts';
import { onServer, withDatabase, withLogin } from '../control-template.ts';
import { freshName } from '../postgres/admin.ts';

/** Attack 3: what a role of the cluster's admin would call, if it looked for it in `public`. */
const trappedOperator = `
  CREATE FUNCTION public.spring(oid, regclass) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
    PERFORM nextval('public.sprung'); RETURN $1 = $2::oid; END $$;
  CREATE OPERATOR public.= (function = public.spring, leftarg = oid, rightarg = regclass)`;

describe.each(['superuser', 'limited'] as const)('removeRoles, as a %s', (kind) => {
  const adminRole = freshName('test_admin');
  const theirs = freshName('test_theirs');
  const others = freshName('test_others');
  let cluster: Cluster;
  let roles: { login: string; service: string; owner: string };
  const neighbour = { login: freshName('usr'), owner: freshName('own') };
  const open: pg.Client[] = [];

  const asSuperuser = (database: string, sql: string) =>
    onServer(withDatabase(inject('serverUrl'), database), (client) => client.query(sql));

  const createPair = ({ login, owner }: typeof neighbour) => `CREATE ROLE ${owner};
    CREATE ROLE ${login} LOGIN PASSWORD 'secret' IN ROLE ${owner};
    ALTER ROLE ${login} SET role = ${owner}; COMMENT ON ROLE ${login} IS 'marker'`;

  async function asNeighbour(database = theirs): Promise<pg.Client> {
    const client = new pg.Client(
      withLogin(withDatabase(inject('serverUrl'), database), neighbour.login, 'secret'),
    );
    client.on('error', () => undefined);
    open.push(client);
    await client.connect();
    return client;
  }

  beforeAll(async () => {
    await asSuperuser(
      'postgres',
      `CREATE ROLE ${adminRole} LOGIN ${kind === 'superuser' ? 'SUPERUSER' : ''} CREATEDB CREATEROLE
       PASSWORD 'secret'`,
    );
    // A control plane of this server closes it to PUBLIC.
    await asSuperuser('postgres', `GRANT CONNECT ON DATABASE postgres TO ${adminRole}`);
    cluster = openCluster({
      name: 'test',
      url: withLogin(withDatabase(inject('serverUrl'), 'postgres'), adminRole, 'secret'),
      connectionsMax: 10,
      waitTimeoutMs: 10_000,
      statementTimeoutMs: 30_000,
    });
    await cluster.admin(async (client) => {
      await client.query(createPair(neighbour));
      for (const database of [theirs, others]) {
        await client.query(`CREATE DATABASE ${database}`);
        await client.query(`REVOKE ALL ON DATABASE ${database} FROM PUBLIC`);
      }
    });
    for (const database of [theirs, others]) {
      await asSuperuser(
        database,
        `CREATE SEQUENCE public.sprung; GRANT ALL ON SEQUENCE public.sprung TO PUBLIC;
         ${trappedOperator}`,
      );
    }
  });
  afterAll(async () => {
    await cluster.close();
    for (const database of [theirs, others]) {
      await asSuperuser('postgres', `DROP DATABASE IF EXISTS ${database} WITH (FORCE)`);
    }
    await asSuperuser('postgres', `DROP ROLE ${neighbour.login}, ${neighbour.owner}`);
    await asSuperuser('postgres', `REVOKE ALL ON DATABASE postgres FROM ${adminRole}`);
    await asSuperuser('postgres', `DROP ROLE ${adminRole}`);
  });

  beforeEach(async () => {
    roles = { login: freshName('usr'), service: freshName('svc'), owner: freshName('own') };
    await cluster.admin(async (client) => {
      await client.query(createPair(roles));
      await client.query(`CREATE ROLE ${roles.service} IN ROLE ${roles.owner}`);
    });
    for (const database of [theirs, others]) {
      await asSuperuser(database, `GRANT ALL ON SCHEMA public TO ${neighbour.owner}`);
      await asSuperuser(
        database,
        `GRANT CONNECT, CREATE, TEMPORARY ON DATABASE ${database} TO ${neighbour.owner}`,
      );
    }
  });
  afterEach(async () => {
    for (const client of open.splice(0)) await client.end().catch(() => undefined);
    const both = `${neighbour.login}, ${neighbour.owner}`;
    for (const database of [theirs, others]) {
      await asSuperuser(database, `DROP OWNED BY ${both} CASCADE`);
    }
    for (const role of Object.values(roles)) {
      await asSuperuser('postgres', `DROP ROLE IF EXISTS ${role}`);
    }
  });

  const remove = (withinMs = 5_000) =>
    removeRoles({
      cluster,
      roles: [roles.login, roles.service, roles.owner],
      exclusively: (work) => cluster.exclusively('test', work),
      withinMs,
    });

  async function existing() {
    const { rows } = await asSuperuser(
      'postgres',
      `SELECT rolname AS name, rolcanlogin AS login, rolpassword IS NOT NULL AS password,
         (SELECT count(*)::int FROM pg_auth_members m JOIN pg_roles u ON u.oid = m.member
          JOIN pg_roles g ON g.oid = m.roleid
          WHERE a.oid IN (m.roleid, m.member) AND u.rolname <> '${adminRole}') AS memberships
       FROM pg_authid a WHERE rolname IN ('${Object.values(roles).join("', '")}') ORDER BY 1`,
    );
    return rows as { name: string; login: boolean; password: boolean; memberships: number }[];
  }

  async function sprung(): Promise<boolean> {
    const found = await Promise.all(
      [theirs, others].map((database) => asSuperuser(database, 'SELECT is_called FROM sprung')),
    );
    return found.some(({ rows }) => (rows[0] as { is_called: boolean }).is_called);
  }

  /** With names for the roles: `$login` and `$owner`. */
  const named = (sql: string): string =>
    sql.replaceAll('$login', roles.login).replaceAll('$owner', roles.owner);

  const gifts: readonly [string, string][] = [
    ['a table', 'CREATE TABLE t (); GRANT ALL ON t TO $owner, $login'],
    ['columns', 'CREATE TABLE t (a int, b int); GRANT SELECT (a), UPDATE (b) ON t TO $owner'],
    [
      'an odd name',
      `CREATE TABLE "a.b""c\n\u001b[31m" (); GRANT ALL ON "a.b""c\n\u001b[31m" TO $login`,
    ],
    ['a sequence', 'CREATE SEQUENCE q; GRANT ALL ON q TO $owner'],
    ['a view', 'CREATE VIEW v AS SELECT 1 AS a; GRANT ALL ON v TO $owner WITH GRANT OPTION'],
    [
      'functions, procedures and aggregates',
      `CREATE FUNCTION f(VARIADIC a int[]) RETURNS int RETURN 1;
       CREATE PROCEDURE p(a int, OUT b int) LANGUAGE sql AS 'SELECT 1';
       CREATE PROCEDURE p(a int, b int) LANGUAGE sql AS 'SELECT 1';
       CREATE AGGREGATE g(*) (sfunc = int8inc, stype = int8, initcond = '0');
       CREATE FUNCTION step(int, float8) RETURNS int RETURN 1;
       CREATE AGGREGATE o(int ORDER BY float8) (sfunc = step, stype = int);
       GRANT ALL ON FUNCTION f, o, g TO $owner; GRANT ALL ON PROCEDURE p(int, OUT int) TO $owner;
       GRANT ALL ON PROCEDURE p(IN int, IN int) TO $login`,
    ],
    ['types', 'CREATE TYPE c AS (a int); CREATE DOMAIN d AS int; GRANT ALL ON TYPE c, d TO $owner'],
    ['a schema', 'CREATE SCHEMA s; GRANT ALL ON SCHEMA s TO $owner'],
    ['a large object', 'SELECT lo_create(4711); GRANT ALL ON LARGE OBJECT 4711 TO $owner'],
    [
      'default privileges',
      `ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO $owner; CREATE SCHEMA s;
       ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT ALL ON FUNCTIONS TO $login`,
    ],
    [
      'policies, alone and with others',
      `CREATE TABLE t (a int); CREATE POLICY p ON t TO $owner USING (true);
       CREATE POLICY "p q" ON t TO $login, $owner, CURRENT_USER USING (a > 0)`,
    ],
    [
      'a policy on a partitioned table whose key is a trap',
      `CREATE FUNCTION trap(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
         IF current_user::text !~ '^own_' THEN PERFORM nextval('public.sprung'); END IF;
         RETURN $1; END $$;
       CREATE TABLE t (a int) PARTITION BY LIST ((a + trap(1)));
       CREATE TABLE t1 PARTITION OF t DEFAULT;
       CREATE POLICY p ON t TO $owner USING (true); GRANT ALL ON t TO $login`,
    ],
  ];

  test.each(gifts)('takes away what another gave: %s', async (_what, sql) => {
    const client = await asNeighbour();
    await client.query(named(sql));
    expect(await remove()).toEqual([]);
    expect(await existing()).toEqual([]);
    expect(await sprung()).toBe(false);
  });

  test('keeps a policy for its other roles', async () => {
    const client = await asNeighbour();
    await client.query(
      named(`CREATE TABLE t (); CREATE POLICY p ON t TO $owner, CURRENT_USER;
      CREATE POLICY q ON t TO $owner; CREATE POLICY r ON t TO PUBLIC`),
    );
    expect(await remove()).toEqual([]);
    const { rows } = await client.query(
      'SELECT polname, polroles::regrole[]::text AS roles FROM pg_policy ORDER BY 1',
    );
    expect(rows).toEqual([
      { polname: 'p', roles: `{${neighbour.owner}}` },
      { polname: 'r', roles: '{-}' },
    ]);
  });

  test('takes away what was passed on by a third', async () => {
    const third = freshName('own');
    await cluster.admin((client) => client.query(`CREATE ROLE ${third}`));
    const client = await asNeighbour();
    await client.query(`SELECT lo_create(4712);
      GRANT SELECT ON LARGE OBJECT 4712 TO ${third} WITH GRANT OPTION`);
    await asSuperuser(
      theirs,
      named(`SET ROLE ${third}; GRANT SELECT ON LARGE OBJECT 4712 TO $owner WITH GRANT OPTION;
        SET ROLE $owner; GRANT SELECT ON LARGE OBJECT 4712 TO $login`),
    );
    expect(await remove()).toEqual([]);
    const { rows } = await client.query('SELECT lomacl::text FROM pg_largeobject_metadata');
    expect((rows[0] as { lomacl: string }).lomacl).toContain(third);
    await asSuperuser(theirs, `DROP OWNED BY ${third}; DROP ROLE ${third}`);
  });

  test('takes away what is in several databases, and in schemas of any number', async () => {
    for (const database of [theirs, others]) {
      const client = await asNeighbour(database);
      await client.query(
        named(`DO $$ BEGIN FOR i IN 1..300 LOOP
          EXECUTE format('CREATE SCHEMA s%s', i);
          EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA s%s GRANT ALL ON TABLES TO $owner', i);
          EXECUTE format('CREATE TABLE s%s.t (a int)', i);
          EXECUTE format('GRANT SELECT ON s%s.t TO $login', i);
          EXECUTE format('CREATE POLICY p ON s%s.t TO $owner', i);
        END LOOP; END $$`),
      );
    }
    expect(await remove(60_000)).toEqual([]);
    expect(await existing()).toEqual([]);
  });

  test('drops what the roles own in another’s database, with what depends on it', async () => {
    const client = await asNeighbour();
    await asSuperuser(
      theirs,
      named(`GRANT $owner, $login TO ${neighbour.owner};
        GRANT ALL ON SCHEMA public TO $owner; GRANT CREATE ON DATABASE ${theirs} TO $login`),
    );
    await client.query(
      named(`SET ROLE $owner; CREATE TABLE public.a (a int); CREATE TYPE public.e AS ENUM ('x');
        SELECT lo_create(0); ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC;
        SET ROLE $login; CREATE SCHEMA s; CREATE TABLE s.t (); RESET ROLE;
        ALTER DEFAULT PRIVILEGES FOR ROLE $login IN SCHEMA s GRANT ALL ON TABLES TO PUBLIC;
        CREATE VIEW public.mine AS SELECT * FROM public.a`),
    );
    expect(await remove()).toEqual([]);
    expect(await existing()).toEqual([]);
    // What it could do as them, it cannot any more.
    await expect(client.query(named('SET ROLE $owner'))).rejects.toThrow();
  });

  test('takes memberships away, in both directions', async () => {
    await cluster.admin((client) =>
      client.query(
        named(`GRANT $owner, $login TO ${neighbour.login} WITH ADMIN OPTION;
          GRANT ${neighbour.owner} TO $login WITH ADMIN OPTION`),
      ),
    );
    expect(await remove()).toEqual([]);
    expect(await existing()).toEqual([]);
  });

  test.each<[string, string]>([
    [
      'holds a table with a grant locked',
      'CREATE TABLE t (); GRANT ALL ON t TO $owner; BEGIN; LOCK TABLE t; GRANT UPDATE ON t TO $owner',
    ],
    [
      'holds a table with a policy locked',
      'CREATE TABLE t (); CREATE POLICY p ON t TO $owner; BEGIN; LOCK TABLE t',
    ],
    ['has not committed a grant', 'CREATE TABLE t (); BEGIN; GRANT ALL ON t TO $owner'],
    [
      'has not committed a default privilege',
      'BEGIN; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO $owner',
    ],
  ])('ends while another %s, and leaves a role that is good for nothing', async (_what, sql) => {
    const free = await asNeighbour(others);
    await free.query(named('CREATE TABLE f (); GRANT ALL ON f TO $owner, $login'));
    const holder = await asNeighbour();
    for (const statement of named(sql).split('; ')) await holder.query(statement);
    expect(await remove()).toEqual([roles.owner]);
    expect(await existing()).toEqual([
      { name: roles.owner, login: false, password: false, memberships: 0 },
    ]);
    await expect(holder.query('COMMIT')).resolves.toBeDefined(); // it is left alone
    expect(await remove()).toEqual([]);
    expect(await existing()).toEqual([]);
  });

  test('ends while it cannot connect to another’s database', async () => {
    const client = await asNeighbour();
    await client.query(named('CREATE TABLE t (); GRANT ALL ON t TO $owner'));
    await client.end();
    const allow = (allowed: boolean) =>
      asSuperuser('postgres', `ALTER DATABASE ${theirs} ALLOW_CONNECTIONS ${String(allowed)}`);
    await allow(false);
    expect(await remove()).toEqual([roles.owner]);
    const holders = await cluster.admin((admin) => describeHolders(admin, [roles.owner, 'none']));
    expect([...holders]).toEqual([
      [
        roles.owner,
        `it still has rights on tables, views or sequences in database "${theirs}" (1), which accepts no connections`,
      ],
    ]);
    await allow(true);
    expect(await remove()).toEqual([]);
  });

  test('ends in its time where there is more than it can take away, and goes on the next time', async () => {
    const client = await asNeighbour();
    await client.query(
      named(`DO $$ BEGIN FOR i IN 1..3000 LOOP
        EXECUTE format('CREATE FUNCTION f%s() RETURNS int RETURN 1', i);
        EXECUTE format('GRANT EXECUTE ON FUNCTION f%s TO $owner', i); END LOOP; END $$`),
    );
    const left = async () => {
      const { rows } = await client.query(
        `SELECT count(*)::int AS count FROM pg_shdepend WHERE refobjid = to_regrole($1)`,
        [roles.owner],
      );
      return (rows[0] as { count: number }).count;
    };
    expect(await remove(0)).toEqual([roles.owner]);
    expect(await left()).toBe(3000);
    let before = 3000;
    for (let tries = 0; tries < 100 && before > 0; tries += 1) {
      await remove(500);
      const now = await left();
      expect(now).toBeLessThanOrEqual(before);
      before = now;
    }
    expect(await existing()).toEqual([]);
  });

  test('says what holds a role in a text that is bounded, whatever the names', async () => {
    const client = await asNeighbour();
    await client.query(
      named(`CREATE TABLE t (a int); GRANT ALL ON t TO $owner; CREATE POLICY p ON t TO $owner;
        CREATE SCHEMA s; GRANT ALL ON SCHEMA s TO $owner; SELECT lo_create(1);
        GRANT ALL ON LARGE OBJECT 1 TO $owner; CREATE DOMAIN d AS int; GRANT ALL ON TYPE d TO $owner`),
    );
    await client.end();
    const odd = `${'x'.repeat(40)}"\u001b[31m\n\u202e`;
    const quoted = `"${odd.replaceAll('"', '""')}"`;
    await asSuperuser('postgres', `ALTER DATABASE ${theirs} RENAME TO ${quoted}`);
    const holders = await cluster.admin((admin) => describeHolders(admin, [roles.owner]));
    await asSuperuser('postgres', `ALTER DATABASE ${quoted} RENAME TO ${theirs}`);
    const text = holders.get(roles.owner)!;
    expect(text).toContain(
      String.raw`in database "${'x'.repeat(40)}""\u{1b}[31m\u{a}\u{202e}" (1)`,
    );
    expect(text).toMatch(/^it still has (.+; ){3}and 2 more$/);
  });
});
