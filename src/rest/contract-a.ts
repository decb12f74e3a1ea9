import { z } from 'zod';
import { uuid } from './body-schemas.ts';
import { boundedText } from './body.ts';
import { detailBody } from './error-bodies.ts';
import { detailForm } from './errors.ts';
import { acceptedDocs } from './operation-docs.ts';
import { acceptedReply, operationFields } from './operations.ts';
import { route, type Dialect, type MutationPayload } from './route.ts';
import { creationProblems } from './problems.ts';
import { tenantStatus } from './tenant-body.ts';

const body = z
  .object({
    name: boundedText(255).meta({ description: 'Unique among your tenants.' }),
    environment: z.enum(['development', 'staging', 'production']),
  })
  .meta({ id: 'NewTenantA', description: 'A tenant as contract A asks for it.' });

const created = z
  .object({ tenant_id: uuid('The tenant.'), name: z.string(), status: tenantStatus })
  .meta({ id: 'CreatedTenantA', description: 'A tenant as contract A tells of it.' });

interface Created {
  readonly createTenant: MutationPayload & {
    readonly tenant: { readonly id: string; readonly name: string; readonly status: string } | null;
  };
}

/** Contract A: `/api/v1/tenants`, a database `car_{tenant_id}` for each tenant. */
export const contractA: Dialect = {
  name: 'A',
  prefix: '/api/v1',
  errors: detailForm,
  apiKeyOnCreate: false,
  docs: {
    tag: 'Contract A',
    description: 'A database `car_{tenant_id}` for each tenant, at `/api/v1/tenants`.',
    errorBody: detailBody,
  },
  routes: [
    route<z.output<typeof body>, Created>({
      method: 'POST',
      path: '/api/v1/tenants',
      body,
      document: /* GraphQL */ `
        mutation CreateTenant($input: CreateTenantInput!) {
          createTenant(input: $input) {
            tenant { id name status }
            operation { ${operationFields} }
            userErrors { code message field }
          }
        }
      `,
      variables: ({ body: { name, environment }, wait }) => ({
        input: {
          name,
          uniqueName: true,
          environment: environment.toUpperCase(),
          isolation: 'DATABASE',
          databaseNaming: 'TENANT_ID',
          wait,
        },
      }),
      respond: ({ createTenant: { tenant, operation } }, { wait }) => {
        if (!wait) return acceptedReply(operation);
        if (tenant === null) return null;
        const { id, name, status } = tenant;
        return { status: 201, body: { tenant_id: id, name, status: status.toLowerCase() } };
      },
      docs: {
        operationId: 'createTenantA',
        summary: 'Make a tenant',
        description:
          'Answers when the database was created, verified with the tenant’s own credentials and registered; whatever fails before is undone.',
        requests: {
          production: {
            summary: 'For production',
            value: { name: 'acme_corp', environment: 'production' },
          },
          anyName: {
            summary: 'Any text is a name',
            value: { name: 'Café “Zürich” 🐘', environment: 'development' },
          },
        },
        replies: {
          201: {
            description: 'The database is there, verified and registered.',
            schema: created,
            example: {
              tenant_id: '550e8400-e29b-41d4-a716-446655440000',
              name: 'acme_corp',
              status: 'active',
            },
          },
          202: acceptedDocs('CREATE'),
        },
        problems: {
          TAKEN: "Tenant with name 'acme_corp' already exists",
          ...creationProblems,
        },
      },
    }),
  ],
};
