import type { Knex } from 'knex';
import { controlSchema, type Control } from './database.ts';
import { readPage, type Page, type PageRequest, type SortOrder } from './pages.ts';
import {
  hiddenStatuses,
  scoped,
  tenantColumns,
  tenantTable,
  type Environment,
  type IsolationKind,
  type Scope,
  type Tenant,
  type TenantStatus,
} from './tenants.ts';

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

/** One page of the tenants that the scope may see. */
export function listTenants(
  control: Control,
  scope: Scope,
  filter: TenantFilter,
  order: { readonly field: keyof typeof tenantOrders; readonly descending: boolean },
  page: PageRequest,
): Promise<Page<Tenant>> {
  return readPage<Tenant>(
    filtered(scoped(tenantTable(control), scope), control, filter),
    tenantColumns,
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
  page: {
    readonly number: number;
    readonly limit: number;
    /** Null: all but those that a list hides. */
    readonly status: readonly TenantStatus[] | null;
  },
): Promise<{ readonly tenants: readonly Tenant[]; readonly total: number }> {
  const list = scoped(tenantTable(control), scope);
  if (page.status === null) void list.whereNotIn('status', hiddenStatuses);
  else void list.whereIn('status', page.status);
  const counted = (await list.clone().count({ count: '*' }).first()) as { count: number };
  const tenants = (await list
    .select(tenantColumns)
    .orderBy(['created_at', 'id'])
    .offset((page.number - 1) * page.limit)
    .limit(page.limit)) as Tenant[];
  return { tenants, total: counted.count };
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
