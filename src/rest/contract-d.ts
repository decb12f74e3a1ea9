import type { z } from 'zod';
import {
  company,
  companyBody,
  companyChanges,
  companyErrors,
  companyExample,
  companyFields,
  companyProblem,
  companySchema,
  type CompanyResult,
} from './contract-d-body.ts';
import { batchRoute } from './batch-route.ts';
import type { ReplyDocs } from './docs.ts';
import { codeBody } from './error-bodies.ts';
import { acceptedDocs } from './operation-docs.ts';
import { acceptedReply, operationFields } from './operations.ts';
import { pageDocs, pageReply, paging, type TenantsPage } from './paging.ts';
import { creationProblems } from './problems.ts';
import type { Reply } from './reply.ts';
import { route, type Dialect, type MutationPayload } from './route.ts';

const root = '/api/provisioning/tenants';

/** Those that contract D shows: made, and not deleted. */
const shown: readonly string[] = ['ACTIVE', 'SUSPENDED'];

interface Payload extends MutationPayload {
  readonly tenant: CompanyResult | null;
}

function found(tenant: CompanyResult, status = 200): Reply {
  return { status, body: companyBody(tenant), headers: { ETag: `"${tenant.version}"` } };
}

const idParam = { description: 'Its UUID.', example: companyExample.tenant };

function tenantDocs(description: string, example: object = companyExample): ReplyDocs {
  return { description, schema: companySchema, example, headers: ['ETag'] };
}

function companyInput(body: z.output<typeof company>): object {
  return {
    name: body.company_name,
    uniqueName: true,
    environment: 'PRODUCTION',
    isolation: 'DATABASE',
    databaseNaming: 'TENANT_ID',
    email: body.email,
    phoneNumber: body.phone_number,
    industry: body.industry,
  };
}

const createRoute = route<z.output<typeof company>, { readonly createTenant: Payload }>({
  method: 'POST',
  path: root,
  body: company,
  document: /* GraphQL */ `
    mutation CreateTenant($input: CreateTenantInput!) {
      createTenant(input: $input) {
        tenant { ${companyFields} }
        operation { ${operationFields} }
        userErrors { code message field }
      }
    }
  `,
  variables: ({ body, wait }) => ({ input: { ...companyInput(body), wait } }),
  respond: ({ createTenant: { tenant, operation } }, { wait }) => {
    if (!wait) return acceptedReply(operation);
    return tenant === null ? null : found(tenant, 201);
  },
  docs: {
    operationId: 'createTenantD',
    summary: 'Make a tenant',
    description:
      'Permission `tenant:create`. Answers when the database was created, verified with the tenant’s own credentials and registered; whatever fails before is undone.',
    requests: {
      company: {
        summary: 'A company',
        value: {
          company_name: 'Example Corp',
          email: 'admin@example.com',
          phone_number: '+1234567890',
          industry: 'Technology',
        },
      },
      required: {
        summary: 'What is required',
        value: { company_name: 'Globex', email: 'hank@globex.example' },
      },
    },
    replies: {
      201: {
        ...tenantDocs('The database is there, verified and registered.'),
        links: Object.fromEntries(
          ['getTenantD', 'changeTenantD', 'replaceTenantD', 'deleteTenantD'].map((id) => [
            id,
            { id: 'tenant' },
          ]),
        ),
      },
      202: acceptedDocs('CREATE'),
    },
    problems: { TAKEN: "Tenant with name 'Example Corp' already exists", ...creationProblems },
  },
});

const listRoute = route<null, TenantsPage<CompanyResult>, z.output<typeof paging>>({
  method: 'GET',
  path: root,
  query: paging,
  document: /* GraphQL */ `
    query Tenants($page: Int!, $limit: Int!, $status: [TenantStatus!]) {
      tenantsPage(page: $page, limit: $limit, status: $status) {
        nodes { ${companyFields} } page limit total pages
      }
    }
  `,
  variables: ({ query }) => ({ ...query, status: shown }),
  respond: (listed, { publicUrl }) => pageReply(listed, `${publicUrl}${root}`, companyBody),
  docs: {
    operationId: 'listTenantsD',
    summary: 'Your tenants, page by page',
    description: 'Permission `tenant:read`. Newest last; deleted ones are not there.',
    replies: { 200: pageDocs('CompanyList', companySchema, companyExample) },
  },
});

const getRoute = route<null, { readonly tenant: CompanyResult | null }>({
  method: 'GET',
  path: `${root}/:id`,
  document: /* GraphQL */ `
    query Tenant($id: ID!) { tenant(id: $id) { ${companyFields} } }
  `,
  variables: ({ params }) => ({ id: params['id'] }),
  respond: ({ tenant }) =>
    tenant === null || !shown.includes(tenant.status) ? null : found(tenant),
  docs: {
    operationId: 'getTenantD',
    summary: 'One tenant',
    description: 'Permission `tenant:read`. A deleted one is `404`.',
    params: { id: idParam },
    replies: { 200: tenantDocs('The tenant; its version is the `ETag`.') },
    problems: { NOT_FOUND: 'Not found' },
  },
});

const updateDocument = /* GraphQL */ `
  mutation UpdateTenant($input: UpdateTenantInput!) {
    updateTenant(input: $input) {
      tenant { ${companyFields} }
      userErrors { code message field }
    }
  }
`;

/** Contract D knows nothing of a tenant that is deleted. */
function isGone({ updateTenant }: { readonly updateTenant: Payload }): boolean {
  return updateTenant.tenant?.status === 'DELETED';
}

const noTenant = 'There is no tenant with this id';

const updateProblems = {
  NOT_FOUND: noTenant,
  TAKEN: "Tenant with name 'Example Corp' already exists",
};

/** What PATCH and PUT have in common. */
const update = {
  path: `${root}/:id`,
  ifMatch: true,
  isGone,
  document: updateDocument,
  respond: ({ updateTenant: { tenant } }: { readonly updateTenant: Payload }) =>
    tenant === null ? null : found(tenant),
} as const;

const changeRoute = route<z.output<typeof companyChanges>, { readonly updateTenant: Payload }>({
  ...update,
  method: 'PATCH',
  body: companyChanges,
  variables: ({ body, params, expectedVersion }) => ({
    input: {
      id: params['id'],
      expectedVersion,
      uniqueName: true,
      // What is absent from the body is absent here.
      ...(body.company_name === undefined ? {} : { name: body.company_name }),
      ...(body.email === undefined ? {} : { email: body.email }),
      ...(body.phone_number === undefined ? {} : { phoneNumber: body.phone_number }),
      ...(body.industry === undefined ? {} : { industry: body.industry }),
    },
  }),
  docs: {
    operationId: 'changeTenantD',
    summary: 'Change a tenant',
    description:
      'Permission `tenant:update`. What is absent stays, `null` clears. With `If-Match`, only the version that you know is changed.',
    params: { id: idParam },
    requests: {
      industry: { summary: 'One field', value: { industry: 'Mills' } },
      phone: { summary: 'Clear a field', value: { phone_number: null } },
    },
    requestHeaders: ['If-Match'],
    replies: { 200: tenantDocs('The tenant, changed.', { ...companyExample, industry: 'Mills' }) },
    problems: updateProblems,
  },
});

const replaceRoute = route<z.output<typeof company>, { readonly updateTenant: Payload }>({
  ...update,
  method: 'PUT',
  body: company,
  variables: ({ body, params, expectedVersion }) => ({
    input: {
      id: params['id'],
      expectedVersion,
      uniqueName: true,
      name: body.company_name,
      email: body.email,
      phoneNumber: body.phone_number ?? null,
      industry: body.industry ?? null,
    },
  }),
  docs: {
    operationId: 'replaceTenantD',
    summary: 'Replace what describes a tenant',
    description:
      'Permission `tenant:update`. What is absent is cleared. With `If-Match`, only the version that you know is replaced.',
    params: { id: idParam },
    requests: {
      company: {
        summary: 'All that there is',
        value: {
          company_name: 'Example Corporation',
          email: 'office@example.com',
          phone_number: '+1234567890',
          industry: 'Technology',
        },
      },
    },
    requestHeaders: ['If-Match'],
    replies: {
      200: tenantDocs('The tenant as it is now.', {
        ...companyExample,
        company_name: 'Example Corporation',
        email: 'office@example.com',
      }),
    },
    problems: updateProblems,
  },
});

const deleteRoute = route<null, { readonly deleteTenant: Payload }>({
  method: 'DELETE',
  path: `${root}/:id`,
  ifMatch: true,
  document: /* GraphQL */ `
    mutation DeleteTenant($input: DeleteTenantInput!) {
      deleteTenant(input: $input) {
        operation { ${operationFields} }
        userErrors { code message field }
      }
    }
  `,
  variables: ({ params, expectedVersion, wait }) => ({
    input: { id: params['id'], expectedVersion, wait },
  }),
  respond: ({ deleteTenant: { operation } }, { wait }) => {
    if (operation == null) return null; // deleted already
    return wait ? { status: 204, body: null } : acceptedReply(operation);
  },
  docs: {
    operationId: 'deleteTenantD',
    summary: 'Delete a tenant softly',
    description:
      'Permission `tenant:delete`. Nobody can log in any more and its sessions end; the data stays for a while, the name stays taken. Deleted already: `404`.',
    params: { id: idParam },
    requestHeaders: ['If-Match'],
    replies: { 204: { description: 'It is deleted.' }, 202: acceptedDocs('DELETE') },
    problems: {
      NOT_FOUND: noTenant,
      INVALID_STATE: 'Another operation on this tenant is under way',
      PROTECTED: 'Deletion protection of this tenant is on',
    },
    without: ['PROVISIONING_FAILED'], // it only goes forward
  },
});

const batchCompany = { company_name: 'Initech', email: 'bill@initech.example' };

const createBatchRoute = batchRoute<z.output<typeof company>, CompanyResult>({
  path: `${root}/batch`,
  operationId: 'createBatchD',
  item: company,
  nameField: 'company_name',
  problemOf: companyProblem,
  input: companyInput,
  fields: companyFields,
  shown: (tenant) => companyBody(tenant),
  shownSchema: companySchema.shape,
  requests: {
    two: {
      summary: 'Two companies',
      value: {
        tenants: [batchCompany, { company_name: 'Hooli', email: 'gavin@hooli.example' }],
      },
    },
  },
  example: {
    success: true,
    message: 'Batch tenant provisioning completed',
    results: [
      { ...companyExample, ...batchCompany, phone_number: null, industry: null, status: 'success' },
    ],
    summary: { total_requested: 2, successful: 2, failed: 0, processing_time_ms: 125 },
  },
});

/** Contract D: `/api/provisioning/tenants`, for partners with a token. */
export const contractD: Dialect = {
  name: 'D',
  prefix: '/api/provisioning',
  errors: companyErrors,
  apiKeyOnCreate: false,
  tokenOnly: true,
  docs: {
    tag: 'Contract D',
    description:
      'A database `car_{tenant_id}` for each tenant, at `/api/provisioning/tenants`, for partners: always with a token (a JWT), in open mode too. `npm run -s token -- --role partner-admin` prints one that the local installation takes.',
    errorBody: codeBody,
  },
  routes: [
    createBatchRoute,
    createRoute,
    listRoute,
    getRoute,
    changeRoute,
    replaceRoute,
    deleteRoute,
  ],
};
