import { controlSchema, type Control } from './database.ts';
import { tenantColumns, type Tenant } from './tenants.ts';

/** What of a tenant can be changed as such, without any work on its database. */
export type TenantChanges = Partial<
  Pick<
    Tenant,
    | 'name'
    | 'environment'
    | 'domain'
    | 'description'
    | 'email'
    | 'phoneNumber'
    | 'industry'
    | 'settings'
    | 'deletionProtection'
  >
>;

/**
 * Changes a tenant, whose row the transaction has locked, and raises its version. A domain in use breaks
 * `tenants_domain_taken`.
 */
export async function updateTenantRow(
  trx: Control,
  id: string,
  changes: TenantChanges,
): Promise<Tenant> {
  const values = Object.entries(changes).map(([property, value]) => [
    tenantColumns[property as keyof TenantChanges],
    property === 'settings' ? JSON.stringify(value) : value,
  ]);
  const table = trx.withSchema(controlSchema).from('tenants').where({ id });
  await table.clone().update({
    ...(Object.fromEntries(values) as Record<string, never>),
    version: trx.raw('version + 1'),
    updated_at: trx.fn.now(),
  });
  return (await table.first(tenantColumns)) as Tenant;
}
