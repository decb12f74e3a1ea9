import type { Knex } from 'knex';
import { controlSchema } from './database.ts';

/** What stands against a role that gateways should run as. */
export interface RoleProblem {
  readonly message: string;
  /** Whether it can have no rights of its own taken away: nothing is granted then. */
  readonly fatal: boolean;
}

/** What gateways may read and not write, however the rest of the registry is theirs. */
const protectedTables = [
  'audit_log',
  'audit_chain',
  'audit_head',
  'knex_migrations',
  'knex_migrations_lock',
];

/**
 * Gives a role all that a gateway needs on the control plane, and no more: it appends to the audit log
 * and cannot change it, and it changes no table as such. To be run as the owner, after each migration.
 *
 * @param schemas of the control plane's tables: the registry's, and others that are the role's to write
 * @returns what is wrong with the role; a fatal problem: nothing was granted
 */
export async function grantRuntime(
  control: Knex,
  role: string,
  schemas: readonly string[],
): Promise<readonly RoleProblem[]> {
  return control.transaction(async (trx) => {
    const problems = await problemsOf(trx, role);
    if (problems.some(({ fatal }) => fatal)) return problems;
    const { rows } = await trx.raw<{ rows: { name: string }[] }>(
      'SELECT current_database() AS name',
    );
    await trx.raw('REVOKE ALL ON DATABASE ?? FROM PUBLIC', [rows[0]?.name ?? '']);
    await trx.raw('GRANT CONNECT ON DATABASE ?? TO ??', [rows[0]?.name ?? '', role]);
    for (const schema of new Set([controlSchema, ...schemas])) {
      await trx.raw('GRANT USAGE ON SCHEMA ?? TO ??', [schema, role]);
      await trx.raw('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ?? TO ??', [
        schema,
        role,
      ]);
      await trx.raw('GRANT USAGE ON ALL SEQUENCES IN SCHEMA ?? TO ??', [schema, role]);
    }
    for (const table of protectedTables) {
      const name = `${controlSchema}.${table}`;
      await trx.raw('REVOKE ALL ON ?? FROM ??', [name, role]);
      await trx.raw('GRANT SELECT ON ?? TO ??', [name, role]);
    }
    await trx.raw('GRANT INSERT ON ?? TO ??', [`${controlSchema}.audit_log`, role]);
    return problems;
  });
}

async function problemsOf(trx: Knex.Transaction, role: string): Promise<RoleProblem[]> {
  const { rows } = await trx.raw<{
    rows: { superuser: boolean; owns: boolean; mayJoin: boolean }[];
  }>(
    `SELECT role.rolsuper AS superuser, pg_has_role(role.oid, owner.oid, 'MEMBER') AS owns,
       role.rolcreaterole AND NOT owner.rolsuper
         AND current_setting('server_version_num')::int < 160000 AS "mayJoin"
     FROM pg_roles role, pg_roles owner
     WHERE role.rolname = ? AND owner.oid =
       (SELECT relowner FROM pg_class WHERE oid = '${controlSchema}.audit_log'::regclass)`,
    [role],
  );
  const [found] = rows;
  const fatal = (message: string): RoleProblem[] => [{ message, fatal: true }];
  if (found === undefined) return fatal(`there is no role ${role}`);
  if (found.superuser) return fatal(`${role} is a superuser, whom no right can be denied`);
  if (found.owns) return fatal(`${role} is the owner of the control plane, or a member of it`);
  if (!found.mayJoin) return [];
  const message = `before PostgreSQL 16 a role with CREATEROLE can make itself a member of the owner; only a superuser as the owner keeps ${role} out`;
  return [{ message, fatal: false }];
}
