import { z } from 'zod';
import { reservedSlugs, slugMaxLength, slugPattern } from '../provisioning/names.ts';
import { boundedText } from './body.ts';
import { codeBody } from './error-bodies.ts';
import { codeForm, type ErrorForm } from './errors.ts';
import { acceptedDocs } from './operation-docs.ts';
import { acceptedReply, operationFields } from './operations.ts';
import { pageDocs, pageReply, paging, type TenantsPage } from './paging.ts';
import { creationProblems } from './problems.ts';
import { route, type Dialect, type MutationPayload } from './route.ts';
import {
  tenantBody,
  tenantExample,
  tenantFields,
  tenantSchema,
  type TenantResult,
} from './tenant-body.ts';
import { tenantVariables } from './tenant-key.ts';

const creation = z
  .object({
    name: boundedText(255),
    // Checked by `createTenant`, whose rules these are.
    slug: z.string().meta({
      minLength: 1,
      maxLength: slugMaxLength,
      pattern: slugPattern.source,
      not: { enum: [...reservedSlugs] },
      description: 'Unique; neither a reserved word nor a UUID.',
    }),
  })
  .meta({ id: 'NewTenantB', description: 'A tenant as contract B asks for it.' });

const created = tenantSchema
  .pick({ id: true, name: true, slug: true, status: true, created_at: true })
  .meta({ id: 'CreatedTenantB', description: 'A new tenant as contract B tells of it.' });

const slugParam = { description: 'Its slug; its UUID and its number do too.', example: 'acme' };

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
  docs: {
    operationId: 'createTenantB',
    summary: 'Make a tenant',
    description:
      'Answers when the database was created with its base tables, verified with the tenant’s own credentials and registered; whatever fails before is undone.',
    requests: {
      acme: { summary: 'A tenant', value: { name: 'Acme Corp', slug: 'acme' } },
      another: {
        summary: 'Several words in a slug',
        value: { name: 'Globex Corporation', slug: 'globex-north_2' },
      },
    },
    replies: {
      201: {
        description: 'The database is there, verified and registered.',
        schema: created,
        example: {
          id: tenantExample.id,
          name: tenantExample.name,
          slug: tenantExample.slug,
          status: tenantExample.status,
          created_at: tenantExample.created_at,
        },
        links: { getTenantB: { slug: 'slug' }, deleteTenantB: { slug: 'slug' } },
      },
      202: acceptedDocs('CREATE'),
    },
    problems: { TAKEN: "Tenant with slug 'acme' already exists", ...creationProblems },
  },
});

const listRoute = route<null, TenantsPage<TenantResult>, z.output<typeof paging>>({
  method: 'GET',
  path: '/api/tenants',
  query: paging,
  document: /* GraphQL */ `
    query Tenants($page: Int!, $limit: Int!) {
      tenantsPage(page: $page, limit: $limit) { nodes { ${tenantFields} } page limit total pages }
    }
  `,
  variables: ({ query }) => query,
  respond: (listed, { publicUrl }) => pageReply(listed, `${publicUrl}/api/tenants`, tenantBody),
  docs: {
    operationId: 'listTenantsB',
    summary: 'All tenants, page by page',
    description:
      'Newest last. Deleted ones are there with their status; purged ones, and those that could not be made, are not. Each has the fields of contract C too.',
    replies: { 200: pageDocs('TenantList', tenantSchema, tenantExample) },
  },
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
  docs: {
    operationId: 'getTenantB',
    summary: 'One tenant',
    description: 'Also a deleted one.',
    params: { slug: slugParam },
    replies: { 200: { description: 'The tenant.', schema: tenantSchema, example: tenantExample } },
    problems: { NOT_FOUND: 'Not found' },
  },
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
  docs: {
    operationId: 'deleteTenantB',
    summary: 'Delete a tenant softly',
    description:
      'Nobody can log in any more and its sessions end; the data stays until `purge_at`, its slug and name stay taken. Deleted already: `404`.',
    params: { slug: slugParam },
    replies: {
      200: {
        description: 'The tenant, deleted.',
        schema: tenantSchema,
        example: {
          ...tenantExample,
          status: 'deleted',
          deleted_at: '2026-01-18T09:00:00.000Z',
          purge_at: '2026-02-17T09:00:00.000Z',
        },
      },
      202: acceptedDocs('DELETE'),
    },
    problems: {
      NOT_FOUND: 'Not found',
      INVALID_STATE: 'Another operation on this tenant is under way',
      PROTECTED: 'Deletion protection of this tenant is on',
    },
    without: ['PROVISIONING_FAILED'], // it only goes forward
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
  docs: {
    tag: 'Contract B',
    description: 'A database `dbtools_tenant_{slug}` for each tenant, at `/api/tenants`.',
    errorBody: codeBody,
  },
  routes: [createRoute, listRoute, getRoute, deleteRoute],
};
