import type { Knex } from 'knex';
import { controlSchema, type Control } from './database.ts';

/** A migrated database that tenants of a cluster are copied from. */
export interface Template {
  readonly id: string;
  readonly cluster: string;
  readonly databaseName: string;
  /** Owns what is in the template, so that it can be handed over as a whole. */
  readonly ownerRole: string;
  readonly migrationVersion: string | null;
  readonly status: 'BUILDING' | 'READY' | 'DROPPING';
}

const columns = {
  id: 'id',
  cluster: 'cluster',
  databaseName: 'database_name',
  ownerRole: 'owner_role',
  migrationVersion: 'migration_version',
  status: 'status',
} as const satisfies Record<keyof Template, string>;

/** The template of this content; null: not built yet. */
export async function findReadyTemplate(
  control: Control,
  cluster: string,
  contentHash: Buffer,
): Promise<Template | null> {
  const row = (await table(control)
    .where({ cluster, content_hash: contentHash, status: 'READY' })
    .first(columns)) as Template | undefined;
  return row ?? null;
}

/**
 * The templates of a cluster that nobody copies from: half made, or of other migrations than these and
 * not used for `idleSeconds`. An instance with other migrations may be there as well.
 */
export async function listStaleTemplates(
  control: Control,
  cluster: string,
  contentHash: Buffer,
  idleSeconds: number,
): Promise<Template[]> {
  return (await table(control)
    .where({ cluster })
    .where((any) => {
      void any.whereNot('status', 'READY').orWhere((other) => {
        void other
          .whereNot('content_hash', contentHash)
          .whereRaw("used_at < now() - ? * interval '1 second'", [idleSeconds]);
      });
    })
    .select(columns)) as Template[];
}

/** Records that the templates of this content are in use: other instances leave them alone. */
export async function touchTemplates(control: Control, contentHash: Buffer): Promise<void> {
  await table(control).where({ content_hash: contentHash }).update({ used_at: control.fn.now() });
}

/** Records a template before anything of its names exists. */
export async function insertTemplate(
  control: Control,
  template: Omit<Template, 'status'> & { readonly contentHash: Buffer },
): Promise<void> {
  await table(control).insert({
    id: template.id,
    cluster: template.cluster,
    content_hash: template.contentHash,
    database_name: template.databaseName,
    owner_role: template.ownerRole,
    migration_version: template.migrationVersion,
    status: 'BUILDING',
  });
}

/** Moves a template on; READY only once it is closed, DROPPING before the drop begins. */
export async function setTemplateStatus(
  control: Control,
  id: string,
  status: 'READY' | 'DROPPING',
): Promise<void> {
  await table(control).where({ id }).update({ status });
}

/** Forgets a template whose database is gone. */
export async function deleteTemplate(control: Control, id: string): Promise<void> {
  await table(control).where({ id }).delete();
}

/** Content hashes of the tenant migrations that were ever applied, by name. */
export async function appliedTenantMigrations(
  control: Control,
): Promise<ReadonlyMap<string, Buffer>> {
  const rows = (await control
    .withSchema(controlSchema)
    .from('tenant_migrations')
    .select({ name: 'name', contentHash: 'content_hash' })) as {
    name: string;
    contentHash: Buffer;
  }[];
  return new Map(rows.map((row) => [row.name, row.contentHash]));
}

/** Remembers what applied tenant migrations contained; known names keep what was recorded first. */
export async function recordTenantMigrations(
  control: Control,
  files: readonly { readonly name: string; readonly contentHash: Buffer }[],
): Promise<void> {
  if (files.length === 0) return;
  await control
    .withSchema(controlSchema)
    .from('tenant_migrations')
    .insert(files.map((file) => ({ name: file.name, content_hash: file.contentHash })))
    .onConflict('name')
    .ignore();
}

function table(control: Control): Knex.QueryBuilder {
  return control.withSchema(controlSchema).from('templates');
}
