import type pg from 'pg';
import { expect } from 'vitest';
import type { World } from '../harness.ts';
import { asTenant, type Made } from '../provisioning/tenants.ts';

/** The schema in which a tenant's own tables are. */
export function schemaOf({ tenant }: Made): string {
  return tenant.database.schemaName ?? 'public';
}

/**
 * Sets up functions in a tenant's place that note down with whose rights they run. `note` keeps the session's
 * user, whatever the rights of the role; `trap`, declared immutable, may stand in an index, a view or an
 * operator, and tries to become superuser on the way.
 */
export const trapFunctions = `
  CREATE TABLE evidence (worked_as name, logged_in_as name);
  CREATE FUNCTION note(worked_as name) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS
    'BEGIN INSERT INTO %schema%.evidence VALUES (worked_as, session_user); END';
  CREATE FUNCTION spring() RETURNS void LANGUAGE plpgsql AS $$
    DECLARE name name := current_user;
    BEGIN
      PERFORM %schema%.note(name);
      BEGIN EXECUTE format('ALTER ROLE %I SUPERUSER', '%login%'); EXCEPTION WHEN OTHERS THEN END;
      RESET ROLE; SET ROLE NONE;
      PERFORM %schema%.note(current_user);
      BEGIN EXECUTE format('ALTER ROLE %I SUPERUSER', '%login%'); EXCEPTION WHEN OTHERS THEN END;
      EXECUTE format('SET ROLE %I', name);
    EXCEPTION WHEN OTHERS THEN
    END $$;
  CREATE FUNCTION trap(anyelement) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN PERFORM %schema%.spring(); RETURN 1; END'`;

/** Runs SQL as the tenant; `%schema%` and `%login%` stand for its own. */
export function spoil(world: World, made: Made, sql: string): Promise<unknown> {
  return asTenant(world, made.tenant.id, async (client) => {
    const { rows } = await client.query<{ login: string }>('SELECT session_user AS login');
    return client.query(
      sql.replaceAll('%schema%', `"${schemaOf(made)}"`).replaceAll('%login%', rows[0]!.login),
    );
  });
}

/** What came to be known, as a superuser reads it in the tenant's place. */
export async function evidence(client: pg.Client, made: Made): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT DISTINCT unnest(ARRAY[worked_as, logged_in_as])::text AS name
     FROM "${schemaOf(made)}".evidence ORDER BY 1`,
  );
  return rows.map(({ name }) => name);
}

/** Every role that is or became more than a tenant's should be; the tenant's own roles are meant. */
export async function expectNoEscalation(world: World, made: Made): Promise<void> {
  const roles = await world.query(
    `SELECT rolname FROM pg_roles
     WHERE (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
       AND shobj_description(oid, 'pg_authid') LIKE '%' || $1 || '%'`,
    [made.tenant.id],
  );
  expect(roles).toEqual([]);
}
