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

function table(control: Control): Knex.QueryBuilder {
  return control.withSchema(controlSchema).from('shared_databases');
}
