import type { Knex } from 'knex';
import type { Control } from './database.ts';
import { controlSchema } from './database.ts';
import { readPage, type Page, type PageRequest, type SortOrder } from './pages.ts';

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

const columns = {
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

/** Whose rows a query may see: a partner's own, or (null) everybody's. */
export type Scope = { readonly partner: string } | null;

export type TenantKey =
  | { readonly id: string }
  | { readonly number: number }
  | { readonly slug: string }
  | { readonly domain: string };

export interface TenantFilter {
  readonly status?: readonly TenantStatus[];
  readonly environment?: readonly Environment[];
  readonly isolation?: readonly IsolationKind[];
  readonly cluster?: string;
  /** Part of the name, slug or domain, without case. */
  readonly search?: string;
  readonly createdAfter?: Date;
  readonly createdBefore?: Date;
  /** Tenants whose database is (or is not) at this migration. */
  readonly behindMigrations?: { readonly behind: boolean; readonly newest: string | null };
}

export const tenantOrders = {
  CREATED_AT: { column: 'created_at', type: 'timestamptz' },
  NAME: { column: 'name', type: 'text' },
  SLUG: { column: 'slug', type: 'text' },
  UPDATED_AT: { column: 'updated_at', type: 'timestamptz' },
} as const satisfies Record<string, Omit<SortOrder, 'descending'>>;

/** Statuses that a list shows only when it is asked for them. */
const hiddenStatuses: readonly TenantStatus[] = ['FAILED', 'PURGED'];

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
>;

/** Inserts a tenant as PROVISIONING. Broken constraints name `tenants_slug_taken` or `tenants_domain_taken`. */
export async function insertTenant(control: Control, tenant: NewTenant): Promise<Tenant> {
  const rows = (await table(control)
    .insert({
      id: tenant.id,
      partner: tenant.partner,
      name: tenant.name,
      slug: tenant.slug,
      environment: tenant.environment,
      status: 'PROVISIONING',
      domain: tenant.domain,
      description: tenant.description,
      email: tenant.email,
      phone_number: tenant.phoneNumber,
      industry: tenant.industry,
      settings: JSON.stringify(tenant.settings),
      isolation: tenant.isolation,
      deletion_protection: tenant.deletionProtection,
    })
    .returning('*')
    .options({ name: 'insert_tenant' })) as Record<string, unknown>[];
  return fromRow(rows[0] ?? {});
}

/** One tenant that the scope may see, whatever its status; a domain or slug names only a living one. */
export async function findTenant(
  control: Control,
  scope: Scope,
  key: TenantKey,
): Promise<Tenant | null> {
  const query = scoped(table(control), scope);
  if ('id' in key) void query.where('id', key.id);
  else if ('number' in key) void query.where({ number: key.number });
  else {
    void query.whereNotIn('status', hiddenStatuses);
    if ('slug' in key) void query.where('slug', key.slug);
    else void query.whereRaw('lower(domain) = lower(?)', [key.domain]);
  }
  return ((await query.select(columns).first()) as Tenant | undefined) ?? null;
}

/** Tenants by id, in no order; those the scope may not see are left out. */
export async function findTenants(
  control: Control,
  scope: Scope,
  ids: readonly string[],
): Promise<Tenant[]> {
  return (await scoped(table(control), scope).whereIn('id', ids).select(columns)) as Tenant[];
}

/** One page of the tenants that the scope may see. */
export function listTenants(
  control: Control,
  scope: Scope,
  filter: TenantFilter,
  order: { readonly field: keyof typeof tenantOrders; readonly descending: boolean },
  page: PageRequest,
): Promise<Page<Tenant>> {
  return readPage<Tenant>(
    filtered(scoped(table(control), scope), control, filter),
    columns,
    { ...tenantOrders[order.field], descending: order.descending },
    page,
  );
}

/**
 * Tenants by page number, oldest first: for clients that count pages. Drifts under deletions, as page
 * numbers do; `listTenants` does not.
 */
export async function listTenantsByPage(
  control: Control,
  scope: Scope,
  page: { readonly number: number; readonly limit: number },
): Promise<{ readonly tenants: readonly Tenant[]; readonly total: number }> {
  const list = scoped(table(control), scope).whereNotIn('status', hiddenStatuses);
  const [tenants, counted] = await Promise.all([
    list
      .clone()
      .select(columns)
      .orderBy(['created_at', 'id'])
      .offset((page.number - 1) * page.limit)
      .limit(page.limit),
    list.clone().count({ count: '*' }).first(),
  ]);
  return { tenants: tenants as Tenant[], total: (counted as { count: number }).count };
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
  const row: unknown = await table(trx)
    .where({ partner, name })
    .whereNotIn('status', hiddenStatuses)
    .first('id');
  return row !== undefined;
}

/** How many tenants a partner has that count against its limit. */
export async function countTenants(trx: Control, partner: string): Promise<number> {
  const row = (await table(trx)
    .where({ partner })
    .whereNotIn('status', hiddenStatuses)
    .count({ count: '*' })
    .first()) as { count: number };
  return row.count;
}

/** Of these slugs, those that are taken. */
export async function takenSlugs(trx: Control, slugs: readonly string[]): Promise<string[]> {
  const rows = (await table(trx)
    .whereRaw('slug = ANY (?)', [slugs as string[]])
    .whereNotIn('status', hiddenStatuses)
    .select('slug')
    .options({ name: 'taken_slugs' })) as { slug: string }[];
  return rows.map((row) => row.slug);
}

/** PROVISIONING → ACTIVE. False when the tenant is in another status. */
export async function activateTenant(trx: Control, id: string): Promise<boolean> {
  const changed = await table(trx)
    .where({ id, status: 'PROVISIONING' })
    .update({ status: 'ACTIVE', activated_at: trx.fn.now(), updated_at: trx.fn.now() })
    .options({ name: 'activate_tenant' });
  return changed === 1;
}

/** One tenant that the scope may see, its row locked until the transaction ends. */
export async function lockTenant(trx: Control, scope: Scope, id: string): Promise<Tenant | null> {
  const query = scoped(table(trx), scope).where({ id }).forUpdate();
  return ((await query.first(columns)) as Tenant | undefined) ?? null;
}

/** ACTIVE or SUSPENDED → DELETED, to be purged after so many days. False in another status. */
export async function markTenantDeleted(
  trx: Control,
  id: string,
  retentionDays: number,
): Promise<boolean> {
  const changed = await table(trx)
    .where({ id })
    .whereIn('status', ['ACTIVE', 'SUSPENDED'])
    .update({
      status: 'DELETED',
      status_before_delete: trx.ref('status'),
      deleted_at: trx.fn.now(),
      purge_at: trx.raw("now() + ? * interval '1 day'", [retentionDays]),
      updated_at: trx.fn.now(),
      version: trx.raw('version + 1'),
    });
  return changed === 1;
}

/** PROVISIONING → FAILED, which frees its names. */
export async function releaseTenant(trx: Control, id: string): Promise<void> {
  await table(trx)
    .where({ id, status: 'PROVISIONING' })
    .update({ status: 'FAILED', updated_at: trx.fn.now() });
}

function table(control: Control): Knex.QueryBuilder {
  return control.withSchema(controlSchema).from('tenants');
}

function scoped(query: Knex.QueryBuilder, scope: Scope): Knex.QueryBuilder {
  return scope === null ? query : query.where('partner', scope.partner);
}

function filtered(
  query: Knex.QueryBuilder,
  control: Control,
  filter: TenantFilter,
): Knex.QueryBuilder {
  if (filter.status === undefined) void query.whereNotIn('status', hiddenStatuses);
  else void query.whereIn('status', filter.status);
  if (filter.environment !== undefined) void query.whereIn('environment', filter.environment);
  if (filter.isolation !== undefined) void query.whereIn('isolation', filter.isolation);
  if (filter.createdAfter !== undefined) void query.where('created_at', '>', filter.createdAfter);
  if (filter.createdBefore !== undefined) void query.where('created_at', '<', filter.createdBefore);
  if (filter.search !== undefined) {
    const pattern = `%${filter.search.replaceAll(/[\\%_]/g, '\\$&')}%`;
    void query.where((any) => {
      for (const column of ['name', 'slug', 'domain']) void any.orWhereILike(column, pattern);
    });
  }
  const databases = (): Knex.QueryBuilder =>
    control.withSchema(controlSchema).from('tenant_databases').select('tenant_id');
  if (filter.cluster !== undefined) {
    void query.whereIn('id', databases().where('cluster', filter.cluster));
  }
  if (filter.behindMigrations !== undefined) {
    const { behind, newest } = filter.behindMigrations;
    const at = databases().whereRaw('migration_version IS NOT DISTINCT FROM ?', [newest]);
    if (behind) void query.whereNotIn('id', at);
    else void query.whereIn('id', at);
  }
  return query;
}

function fromRow(row: Record<string, unknown>): Tenant {
  return Object.fromEntries(
    Object.entries(columns).map(([property, column]) => [property, row[column]]),
  ) as unknown as Tenant;
}
