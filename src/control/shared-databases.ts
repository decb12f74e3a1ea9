import type { Knex } from 'knex';
import { controlSchema, type Control } from './database.ts';

/**
 * Records a cluster's shared tenant database before anything of its name exists.
 *
 * @returns its id, the same for all instances of this control plane
 */
export async function recordSharedDatabase(
  control: Control,
  cluster: string,
  databaseName: string,
): Promise<string> {
  await table(control)
    .insert({ cluster, database_name: databaseName })
    .onConflict(['cluster', 'database_name'])
    .ignore();
  const row = (await table(control)
    .where({ cluster, database_name: databaseName })
    .first({ id: 'id' })) as { id: string } | undefined;
  if (row === undefined) throw new Error('a shared database was recorded and is not there');
  return row.id;
}

/** The role whose members may connect to a shared tenant database; null: none was made yet. */
export async function groupRoleOf(control: Control, id: string): Promise<string | null> {
  const row = (await table(control).where({ id }).first({ role: 'group_role' })) as
    { role: string | null } | undefined;
  return row?.role ?? null;
}

/** Records that role, once it exists. */
export async function recordGroupRole(control: Control, id: string, role: string): Promise<void> {
  await table(control).where({ id }).update({ group_role: role });
}

function table(control: Control): Knex.QueryBuilder {
  return control.withSchema(controlSchema).from('shared_databases');
}
