import { controlSchema, type Control } from './database.ts';
import type { TenantDatabaseStatus } from './tenant-databases.ts';
import { scoped, tenantColumns, tenantTable, type Scope, type Tenant } from './tenants.ts';

/** What a check needs to know of a tenant's database. */
export interface CheckedPlace {
  readonly tenantId: string;
  readonly cluster: string;
  readonly databaseName: string;
  readonly schemaName: string | null;
  readonly ownerRole: string;
  /** Its sealed connection string; null: it has none. */
  readonly sealed: string | null;
}

/** What a check found. */
export interface CheckRecord {
  readonly tenantId: string;
  readonly status: Extract<TenantDatabaseStatus, 'PROVISIONED' | 'OUTDATED' | 'UNREACHABLE'>;
  readonly checkedAt: Date;
}

/** The tenants of a scope that are in use, oldest first; `ids`: these of them alone. */
export async function listActiveTenants(
  control: Control,
  scope: Scope,
  ids: readonly string[] | null,
): Promise<Tenant[]> {
  const query = scoped(tenantTable(control), scope).where({ status: 'ACTIVE' });
  if (ids !== null) void query.whereRaw('id = ANY (?)', [ids as string[]]);
  return (await query.orderBy(['created_at', 'id']).select(tenantColumns)) as Tenant[];
}

/** Where these tenants' tables live, in no order. */
export async function listCheckedPlaces(
  control: Control,
  tenantIds: readonly string[],
): Promise<CheckedPlace[]> {
  return (await control
    .withSchema(controlSchema)
    .from('tenant_databases')
    .whereRaw('tenant_id = ANY (?)', [tenantIds as string[]])
    .select({
      tenantId: 'tenant_id',
      cluster: 'cluster',
      databaseName: 'database_name',
      schemaName: 'schema_name',
      ownerRole: 'owner_role',
      sealed: 'connection_string_encrypted',
    })) as CheckedPlace[];
}

/**
 * Records what checks found, of databases that are made and not gone; of two checks that overlapped, the
 * later one stands.
 */
export async function recordChecks(
  control: Control,
  records: readonly CheckRecord[],
): Promise<void> {
  if (records.length === 0) return;
  await control.raw(
    `UPDATE ${controlSchema}.tenant_databases place
     SET status = found.status, checked_at = found.checked_at
     FROM jsonb_to_recordset(CAST(? AS jsonb)) AS found (
       tenant_id uuid, status text, checked_at timestamptz)
     WHERE place.tenant_id = found.tenant_id
       AND place.status IN ('PROVISIONED', 'OUTDATED', 'UNREACHABLE')
       AND (place.checked_at IS NULL OR place.checked_at <= found.checked_at)`,
    [
      JSON.stringify(
        records.map(({ checkedAt, status, tenantId }) => ({
          tenant_id: tenantId,
          status,
          checked_at: checkedAt,
        })),
      ),
    ],
  );
}
