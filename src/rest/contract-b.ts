import { z } from 'zod';
import { boundedText } from './body.ts';
import { codeForm, type ErrorForm } from './errors.ts';
import { acceptedReply, operationFields } from './operations.ts';
import { route, type Dialect, type MutationPayload } from './route.ts';
import { tenantVariables } from './tenant-key.ts';

interface TenantResult {
  readonly id: string;
  readonly number: number;
  readonly name: string;
  readonly slug: string;
  readonly status: string;
  readonly domain: string | null;
  readonly createdAt: string;
  readonly deletedAt: string | null;
  readonly purgeAt: string | null;
  readonly database: { readonly schemaName: string | null } | null;
}

const tenantFields =
  'id number name slug status domain createdAt deletedAt purgeAt database { schemaName }';

/** What both B's and C's clients read of a tenant. */
function tenantBody(tenant: TenantResult): object {
  return {
    id: tenant.id,
    name: tenant.name,
    slug: tenant.slug,
    status: tenant.status.toLowerCase(),
    created_at: tenant.createdAt,
    deleted_at: tenant.deletedAt,
    purge_at: tenant.purgeAt,
    tenant_id: tenant.number,
    tenant_name: tenant.name,
    domain: tenant.domain,
    schema_name: tenant.database?.schemaName ?? null,
  };
}

const creation = z.object({ name: boundedText(255), slug: z.string() });

interface Created {
  readonly createTenant: MutationPayload & { readonly tenant: TenantResult | null };
}

const createRoute = route<z.output<typeof creation>, Created>({
  method: 'POST',
  path: '/api/tenants',
  body: creation,
  document: /* GraphQL */ `
    mutation CreateTenant($input: CreateTenantInput!) {
      createTenant(input: $input) {
        tenant { ${tenantFields} }
        operation { ${operationFields} }
        userErrors { code message field }
      }
    }
  `,
  variables: ({ body: { name, slug }, wait }) => ({
    input: { name, slug, isolation: 'DATABASE', databaseNaming: 'SLUG', wait },
  }),
  respond: ({ createTenant: { tenant, operation } }, { wait }) => {
    if (!wait) return acceptedReply(operation);
    if (tenant === null) return null;
    const { id, name, slug, status, createdAt } = tenant;
    const body = { id, name, slug, status: status.toLowerCase(), created_at: createdAt };
    return { status: 201, body };
  },
});

const paging = z.object({
  page: wholeNumber('page', 1, 1_000_000),
  limit: wholeNumber('limit', 50, 100),
});

interface Listed {
  readonly tenantsPage: {
    readonly nodes: readonly TenantResult[];
    readonly page: number;
    readonly limit: number;
    readonly total: number;
    readonly pages: number;
  };
}

const listRoute = route<null, Listed, z.output<typeof paging>>({
  method: 'GET',
  path: '/api/tenants',
  query: paging,
  document: /* GraphQL */ `
    query Tenants($page: Int!, $limit: Int!) {
      tenantsPage(page: $page, limit: $limit) { nodes { ${tenantFields} } page limit total pages }
    }
  `,
  variables: ({ query }) => query,
  respond: ({ tenantsPage: { nodes, ...pagination } }, { publicUrl }) => ({
    status: 200,
    body: { tenants: nodes.map(tenantBody), pagination },
    headers: { Link: pageLinks(`${publicUrl}/api/tenants`, pagination) },
  }),
});

const getRoute = route<null, { readonly tenant: TenantResult | null }>({
  method: 'GET',
  path: '/api/tenants/:slug',
  document: /* GraphQL */ `
    query Tenant($id: ID, $number: Int, $slug: String) {
      tenant(id: $id, number: $number, slug: $slug) { ${tenantFields} }
    }
  `,
  variables: ({ params }) => tenantVariables(params['slug'] ?? ''),
  respond: ({ tenant }) =>
    tenant === null || gone.has(tenant.status) ? null : { status: 200, body: tenantBody(tenant) },
});

/** Purged, or never made: an id may still name what is left of it, this contract does not. */
const gone: ReadonlySet<string> = new Set(['PURGED', 'FAILED']);

interface Deleted {
  readonly deleteTenant: MutationPayload & { readonly tenant: TenantResult | null };
}

const deleteRoute = route<null, Deleted>({
  method: 'DELETE',
  path: '/api/tenants/:slug',
  tenantKey: 'slug',
  document: /* GraphQL */ `
    mutation DeleteTenant($input: DeleteTenantInput!) {
      deleteTenant(input: $input) {
        tenant { ${tenantFields} }
        operation { ${operationFields} }
        userErrors { code message field }
      }
    }
  `,
  variables: ({ tenantId, wait }) => ({ input: { id: tenantId, wait } }),
  respond: ({ deleteTenant: { tenant, operation } }, { wait }) => {
    if (operation == null || tenant === null) return null; // deleted already
    return wait ? { status: 200, body: tenantBody(tenant) } : acceptedReply(operation);
  },
});

/** As `codeForm`, with the message that this contract's clients know for a bad slug. */
const errors: ErrorForm = (problem) => {
  const badSlug = problem.issues?.some(
    ({ path, type }) => path[0] === 'slug' && type !== 'missing',
  );
  return codeForm(badSlug === true ? { ...problem, message: 'Invalid slug format' } : problem);
};

/** Contract B: `/api/tenants`, a database `dbtools_tenant_{slug}` for each tenant. */
export const contractB: Dialect = {
  name: 'B',
  prefix: '/api/tenants',
  errors,
  apiKeyOnCreate: false,
  routes: [createRoute, listRoute, getRoute, deleteRoute],
};

function wholeNumber(name: string, fallback: number, max: number) {
  return z
    .string()
    .default(String(fallback))
    .transform((text, context) => {
      const value = /^[0-9]{1,9}$/.test(text) ? Number(text) : 0;
      if (value >= 1 && value <= max) return value;
      const message = `${name} must be a whole number from 1 to ${max}`;
      context.issues.push({ code: 'custom', message, input: text });
      return z.NEVER;
    });
}

/** RFC 8288. */
function pageLinks(
  path: string,
  { page, limit, pages }: { readonly page: number; readonly limit: number; readonly pages: number },
): string {
  const last = Math.max(1, pages);
  const targets = {
    first: 1,
    ...(page > 1 ? { prev: Math.min(page - 1, last) } : {}),
    ...(page < last ? { next: page + 1 } : {}),
    last,
  };
  return Object.entries(targets)
    .map(([rel, target]) => `<${path}?page=${target}&limit=${limit}>; rel="${rel}"`)
    .join(', ');
}
