import type { Knex } from 'knex';
import { controlSchema, type Control } from './database.ts';
import type { IsolationKind } from './tenants.ts';

/**
 * Version of what `createTenantRoles` makes: tenants of an earlier one are brought up to date by recovery,
 * pooled databases and schemas before a tenant gets them.
 */
export const roleLayout = 1;

export const tenantDatabaseStatuses = [
  'PENDING',
  'PROVISIONED',
  'OUTDATED',
  'UNREACHABLE',
  'DROPPED',
] as const;
export type TenantDatabaseStatus = (typeof tenantDatabaseStatuses)[number];

/** Where a tenant's tables live. Never holds the connection string, which is sealed in its own column. */
export interface TenantDatabase {
  readonly tenantId: string;
  readonly cluster: string;
  readonly isolation: IsolationKind;
  readonly databaseName: string;
  readonly schemaName: string | null;
  readonly ownerRole: string;
  readonly loginRole: string;
  readonly status: TenantDatabaseStatus;
  readonly migrationVersion: string | null;
  /** When somebody last looked at it; null: nobody has. */
  readonly checkedAt: Date | null;
}

const columns = {
  tenantId: 'tenant_id',
  cluster: 'cluster',
  isolation: 'isolation',
  databaseName: 'database_name',
  schemaName: 'schema_name',
  ownerRole: 'owner_role',
  loginRole: 'login_role',
  status: 'status',
  migrationVersion: 'migration_version',
  checkedAt: 'checked_at',
} as const satisfies Record<keyof TenantDatabase, string>;

/** Records the names before anything of these names exists. */
export async function insertTenantDatabases(
  trx: Control,
  databases: readonly Omit<TenantDatabase, 'status' | 'migrationVersion' | 'checkedAt'>[],
): Promise<TenantDatabase[]> {
  await table(trx)
    .insert(
      databases.map((database) => ({
        tenant_id: database.tenantId,
        cluster: database.cluster,
        isolation: database.isolation,
        database_name: database.databaseName,
        schema_name: database.schemaName,
        owner_role: database.ownerRole,
        login_role: database.loginRole,
      })),
    )
    .options({ name: `insert_tenant_databases_${databases.length}` });
  return databases.map((database) => ({
    ...database,
    status: 'PENDING',
    migrationVersion: null,
    checkedAt: null,
  }));
}

/** Of these names of schemas, those that are taken, in whatever cluster. */
export async function takenSchemaNames(trx: Control, names: readonly string[]): Promise<string[]> {
  const rows = (await table(trx)
    .where({ isolation: 'SCHEMA' })
    .whereRaw('schema_name = ANY (?)', [names as string[]])
    .whereNot('status', 'DROPPED')
    .select({ name: 'schema_name' })) as { name: string }[];
  return rows.map((row) => row.name);
}

/** Back to PENDING, without a connection string: what is there is about to be dropped. */
export async function reopenTenantDatabases(
  trx: Control,
  tenantIds: readonly string[],
): Promise<void> {
  await table(trx).whereIn('tenant_id', tenantIds).update({
    status: 'PENDING',
    connection_string_encrypted: null,
    updated_at: trx.fn.now(),
  });
}

/** The databases of these tenants, in no order. */
export async function findTenantDatabases(
  control: Control,
  tenantIds: readonly string[],
): Promise<TenantDatabase[]> {
  return (await table(control).whereIn('tenant_id', tenantIds).select(columns)) as TenantDatabase[];
}

/** Holds a cluster's room until the transaction ends, so that nobody else counts meanwhile. */
export async function lockCluster(trx: Control, cluster: string): Promise<void> {
  await trx.raw('SELECT pg_advisory_xact_lock(hashtextextended(?, 2))', [cluster]);
}

/** How many tenants a cluster holds or is about to: all but those that are gone from it. */
export async function countOnCluster(trx: Control, cluster: string): Promise<number> {
  const row = (await table(trx)
    .where({ cluster })
    .whereNot('status', 'DROPPED')
    .count({ count: '*' })
    .first()) as { count: number };
  return row.count;
}

/** The clusters that hold tenants, by name. */
export async function listClustersInUse(control: Control): Promise<string[]> {
  const rows = (await table(control)
    .whereNot('status', 'DROPPED')
    .distinct('cluster')
    .orderBy('cluster')) as { cluster: string }[];
  return rows.map((row) => row.cluster);
}

/** A tenant database that was made. */
export interface ProvisionedDatabase {
  readonly tenantId: string;
  readonly connectionStringEncrypted: string;
  readonly migrationVersion: string | null;
}

/** PENDING → PROVISIONED, with the sealed connection strings. Answers with how many were pending. */
export async function provisionTenantDatabases(
  trx: Control,
  databases: readonly ProvisionedDatabase[],
): Promise<number> {
  const { rowCount } = await trx
    .raw<{ rowCount: number }>(provisionStatement, [
      databases.map(({ tenantId }) => tenantId),
      databases.map(({ connectionStringEncrypted }) => connectionStringEncrypted),
      databases.map(({ migrationVersion }) => migrationVersion),
    ] as unknown as Knex.RawBinding[])
    .options({ name: 'provision_tenant_databases' });
  return rowCount;
}

const provisionStatement = `
  UPDATE ${controlSchema}.tenant_databases made
  SET status = 'PROVISIONED', connection_string_encrypted = given.url,
    migration_version = given.version, role_layout = ${roleLayout}, updated_at = now()
  FROM unnest(CAST(? AS uuid[]), CAST(? AS text[]), CAST(? AS text[])) AS given (id, url, version)
  WHERE made.tenant_id = given.id AND made.status = 'PENDING'`;

/** A tenant database whose roles an older version made. */
export type OutdatedRoles = Pick<
  TenantDatabase,
  'tenantId' | 'isolation' | 'databaseName' | 'schemaName' | 'ownerRole' | 'loginRole'
>;

/** Lists tenant databases of a cluster whose roles are of an older layout, by their ids. */
export async function listOutdatedRoles(
  control: Control,
  cluster: string,
  { after, limit }: { readonly after: string | null; readonly limit: number },
): Promise<OutdatedRoles[]> {
  const query = table(control)
    .where({ cluster })
    .where('role_layout', '<', roleLayout)
    .whereNotIn('status', ['PENDING', 'DROPPED'])
    .orderBy('tenant_id')
    .limit(limit);
  if (after !== null) void query.where('tenant_id', '>', after);
  const { tenantId, isolation, databaseName, schemaName, ownerRole, loginRole } = columns;
  return (await query.select({
    tenantId,
    isolation,
    databaseName,
    schemaName,
    ownerRole,
    loginRole,
  })) as OutdatedRoles[];
}

/** Records that the roles of these tenants are up to date. */
export async function recordRoleLayout(
  control: Control,
  tenantIds: readonly string[],
): Promise<void> {
  await table(control)
    .whereRaw('tenant_id = ANY (?)', [tenantIds as string[]])
    .update({ role_layout: roleLayout });
}

/** Records that the database is gone, which frees its name. Only after the drop was verified. */
export async function releaseTenantDatabase(trx: Control, tenantId: string): Promise<void> {
  await table(trx).where({ tenant_id: tenantId }).update({
    status: 'DROPPED',
    connection_string_encrypted: null,
    updated_at: trx.fn.now(),
  });
}

/** One sealed connection string, to see whether the key ring opens what is stored; null: none yet. */
export async function sampleSealedConnection(
  control: Control,
): Promise<{ tenantId: string; sealed: string } | null> {
  const row = (await table(control)
    .whereNotNull('connection_string_encrypted')
    .orderBy('updated_at', 'desc')
    .first({ tenantId: 'tenant_id', sealed: 'connection_string_encrypted' })) as
    { tenantId: string; sealed: string } | undefined;
  return row ?? null;
}

/** The sealed connection string of one tenant; null: it has none. */
export async function sealedConnectionOf(
  control: Control,
  tenantId: string,
): Promise<string | null> {
  const row = (await table(control)
    .where({ tenant_id: tenantId })
    .first({ sealed: 'connection_string_encrypted' })) as { sealed: string | null } | undefined;
  return row?.sealed ?? null;
}

function table(control: Control): Knex.QueryBuilder {
  return control.withSchema(controlSchema).from('tenant_databases');
}
