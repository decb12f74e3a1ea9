import type { Knex } from 'knex';
import { controlSchema, fromRow, type Control } from './database.ts';

export const tenantStatuses = [
  'SCHEDULED',
  'PROVISIONING',
  'ACTIVE',
  'SUSPENDED',
  'DELETED',
  'PURGED',
  'FAILED',
] as const;
export type TenantStatus = (typeof tenantStatuses)[number];

export const environments = ['DEVELOPMENT', 'STAGING', 'PRODUCTION'] as const;
export type Environment = (typeof environments)[number];

export const isolations = ['DATABASE', 'SCHEMA'] as const;
export type IsolationKind = (typeof isolations)[number];

export interface TenantSettings {
  readonly features: readonly string[];
  readonly limits: { readonly users: number; readonly storageGb: number };
}

/** A tenant as the registry has it. */
export interface Tenant {
  readonly id: string;
  readonly number: number;
  readonly partner: string;
  readonly name: string;
  readonly slug: string;
  readonly environment: Environment;
  readonly status: TenantStatus;
  readonly domain: string | null;
  readonly description: string | null;
  readonly email: string | null;
  readonly phoneNumber: string | null;
  readonly industry: string | null;
  readonly settings: TenantSettings;
  readonly isolation: IsolationKind;
  readonly deletionProtection: boolean;
  readonly version: number;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  readonly provisionAt: Date | null;
  readonly activatedAt: Date | null;
  readonly deletedAt: Date | null;
  readonly purgeAt: Date | null;
  readonly lastActivityAt: Date | null;
}

/** Columns by the names of their properties. */
export const tenantColumns = {
  id: 'id',
  number: 'number',
  partner: 'partner',
  name: 'name',
  slug: 'slug',
  environment: 'environment',
  status: 'status',
  domain: 'domain',
  description: 'description',
  email: 'email',
  phoneNumber: 'phone_number',
  industry: 'industry',
  settings: 'settings',
  isolation: 'isolation',
  deletionProtection: 'deletion_protection',
  version: 'version',
  createdAt: 'created_at',
  updatedAt: 'updated_at',
  provisionAt: 'provision_at',
  activatedAt: 'activated_at',
  deletedAt: 'deleted_at',
  purgeAt: 'purge_at',
  lastActivityAt: 'last_activity_at',
} as const satisfies Record<keyof Tenant, string>;

/** Which rows a query may see: a partner's own, those of one tenant, or (null) everybody's. */
export type Scope = { readonly partner: string } | { readonly tenantId: string } | null;

export type TenantKey =
  | { readonly id: string }
  | { readonly number: number }
  | { readonly slug: string }
  | { readonly domain: string };

/** Statuses that a list shows only when it is asked for them. */
export const hiddenStatuses: readonly TenantStatus[] = ['FAILED', 'PURGED'];

/** What the reserving transaction knows of a new tenant. */
export type NewTenant = Pick<
  Tenant,
  | 'id'
  | 'partner'
  | 'name'
  | 'slug'
  | 'environment'
  | 'domain'
  | 'description'
  | 'email'
  | 'phoneNumber'
  | 'industry'
  | 'settings'
  | 'isolation'
  | 'deletionProtection'
  | 'provisionAt'
>;

/**
 * Inserts tenants as PROVISIONING, or as SCHEDULED where they have a time; answers by id. Broken constraints name `tenants_slug_taken` or
 * `tenants_domain_taken`.
 */
export async function insertTenants(
  control: Control,
  tenants: readonly NewTenant[],
): Promise<ReadonlyMap<string, Tenant>> {
  const rows = (await tenantTable(control)
    .insert(
      tenants.map((tenant) => ({
        id: tenant.id,
        partner: tenant.partner,
        name: tenant.name,
        slug: tenant.slug,
        environment: tenant.environment,
        status: tenant.provisionAt === null ? 'PROVISIONING' : 'SCHEDULED',
        provision_at: tenant.provisionAt,
        domain: tenant.domain,
        description: tenant.description,
        email: tenant.email,
        phone_number: tenant.phoneNumber,
        industry: tenant.industry,
        settings: JSON.stringify(tenant.settings),
        isolation: tenant.isolation,
        deletion_protection: tenant.deletionProtection,
      })),
    )
    .returning('*')
    .options({ name: `insert_tenants_${tenants.length}` })) as Record<string, unknown>[];
  return new Map(
    rows.map((row) => fromRow<Tenant>(tenantColumns, row)).map((tenant) => [tenant.id, tenant]),
  );
}

/** One tenant that the scope may see, whatever its status; a domain or slug names only a living one. */
export async function findTenant(
  control: Control,
  scope: Scope,
  key: TenantKey,
): Promise<Tenant | null> {
  const query = scoped(tenantTable(control), scope);
  if ('id' in key) void query.where('id', key.id);
  else if ('number' in key) void query.where({ number: key.number });
  else {
    void query.whereNotIn('status', hiddenStatuses);
    if ('slug' in key) void query.where('slug', key.slug);
    else void query.whereRaw('lower(domain) = lower(?)', [key.domain]);
  }
  return ((await query.select(tenantColumns).first()) as Tenant | undefined) ?? null;
}

/** Tenants by id, in no order; those the scope may not see are left out. */
export async function findTenants(
  control: Control,
  scope: Scope,
  ids: readonly string[],
): Promise<Tenant[]> {
  return (await scoped(tenantTable(control), scope)
    .whereIn('id', ids)
    .select(tenantColumns)) as Tenant[];
}

/** Takes the lock under which `uniqueName` is decided, until the transaction ends. */
export async function lockTenantName(trx: Control, partner: string, name: string): Promise<void> {
  // The separator cannot be part of either: which partner and which name is never in doubt.
  await trx.raw('SELECT pg_advisory_xact_lock(hashtextextended(? || chr(31) || ?, 1))', [
    partner,
    name,
  ]);
}

/** Whether this partner has a tenant of this name whose name is not free again. */
export async function tenantNameTaken(
  trx: Control,
  partner: string,
  name: string,
): Promise<boolean> {
  const row: unknown = await tenantTable(trx)
    .where({ partner, name })
    .whereNotIn('status', hiddenStatuses)
    .first('id');
  return row !== undefined;
}

/** How many tenants a partner has that count against its limit. */
export async function countTenants(trx: Control, partner: string): Promise<number> {
  const row = (await tenantTable(trx)
    .where({ partner })
    .whereNotIn('status', hiddenStatuses)
    .count({ count: '*' })
    .first()) as { count: number };
  return row.count;
}

/** Of these slugs, those that are taken. */
export async function takenSlugs(trx: Control, slugs: readonly string[]): Promise<string[]> {
  const rows = (await tenantTable(trx)
    .whereRaw('slug = ANY (?)', [slugs as string[]])
    .whereNotIn('status', hiddenStatuses)
    .select('slug')
    .options({ name: 'taken_slugs' })) as { slug: string }[];
  return rows.map((row) => row.slug);
}

/**
 * PROVISIONING → ACTIVE: all of them, in the order of the ids.
 *
 * @throws Error when one is in another status
 */
export async function activateTenants(trx: Control, ids: readonly string[]): Promise<Tenant[]> {
  const rows = (await tenantTable(trx)
    .whereRaw('id = ANY (CAST(? AS uuid[]))', [ids as string[]])
    .where({ status: 'PROVISIONING' })
    .update({ status: 'ACTIVE', activated_at: present(trx), updated_at: present(trx) })
    .returning('*')
    .options({ name: 'activate_tenants' })) as Record<string, unknown>[];
  return ids.map((id) =>
    changedTenant(
      rows.filter((row) => row['id'] === id),
      'provisioning',
    ),
  );
}

/** One tenant that the scope may see, its row locked until the transaction ends. */
export async function lockTenant(trx: Control, scope: Scope, id: string): Promise<Tenant | null> {
  const query = scoped(tenantTable(trx), scope).where({ id }).forUpdate();
  return ((await query.first(tenantColumns)) as Tenant | undefined) ?? null;
}

/**
 * ACTIVE or SUSPENDED → DELETED, to be purged after so many days.
 *
 * @throws Error when the tenant is in another status
 */
export async function markTenantDeleted(
  trx: Control,
  id: string,
  retentionDays: number,
): Promise<Tenant> {
  const rows = (await tenantTable(trx)
    .where({ id })
    .whereIn('status', ['ACTIVE', 'SUSPENDED'])
    .update({
      status: 'DELETED',
      status_before_delete: trx.ref('status'),
      deleted_at: present(trx),
      purge_at: trx.raw("statement_timestamp() + ? * interval '1 day'", [retentionDays]),
      updated_at: present(trx),
      version: trx.raw('version + 1'),
    })
    .returning('*')) as Record<string, unknown>[];
  return changedTenant(rows, 'active or suspended');
}

/**
 * PROVISIONING → FAILED, which frees its names.
 *
 * @throws Error when the tenant is in another status
 */
export async function releaseTenant(trx: Control, id: string): Promise<Tenant> {
  const rows = (await tenantTable(trx)
    .where({ id, status: 'PROVISIONING' })
    .update({ status: 'FAILED', updated_at: trx.fn.now() })
    .returning('*')) as Record<string, unknown>[];
  return changedTenant(rows, 'provisioning');
}

/** Of these domains, in lower case, those that are taken. */
export async function takenDomains(trx: Control, domains: readonly string[]): Promise<string[]> {
  const rows = (await tenantTable(trx)
    .whereRaw('lower(domain) = ANY (?)', [domains as string[]])
    .whereNotIn('status', hiddenStatuses)
    .select({ domain: trx.raw('lower(domain)') })) as { domain: string }[];
  return rows.map((row) => row.domain);
}

/** Of these names, those that tenants of a partner have. */
export async function takenTenantNames(
  trx: Control,
  partner: string,
  names: readonly string[],
): Promise<string[]> {
  const rows = (await tenantTable(trx)
    .where({ partner })
    .whereRaw('name = ANY (?)', [names as string[]])
    .whereNotIn('status', hiddenStatuses)
    .select('name')) as { name: string }[];
  return rows.map((row) => row.name);
}

/** Back to PROVISIONING: tenants of an atomic batch that is rolled back, whatever became of them. */
export async function reopenTenants(trx: Control, ids: readonly string[]): Promise<void> {
  await tenantTable(trx).whereIn('id', ids).update({
    status: 'PROVISIONING',
    status_before_delete: null,
    activated_at: null,
    deleted_at: null,
    purge_at: null,
    updated_at: trx.fn.now(),
  });
}

/** A query on the table of tenants. */
export function tenantTable(control: Control): Knex.QueryBuilder {
  return control.withSchema(controlSchema).from('tenants');
}

/** The rows of a query that the scope may see; `tenantColumn` is where they name their tenant. */
export function scoped(
  query: Knex.QueryBuilder,
  scope: Scope,
  tenantColumn = 'id',
): Knex.QueryBuilder {
  if (scope === null) return query;
  return 'partner' in scope
    ? query.where('partner', scope.partner)
    : query.where(tenantColumn, scope.tenantId);
}

/** The time of a statement: a transaction may have begun seconds before. */
function present(trx: Control): Knex.Raw {
  return trx.raw('statement_timestamp()');
}

function changedTenant(rows: readonly Record<string, unknown>[], expected: string): Tenant {
  if (rows[0] === undefined) throw new Error(`the tenant is not ${expected}`);
  return fromRow<Tenant>(tenantColumns, rows[0]);
}
