import { z } from 'zod';
import { boundedText } from './body.ts';
import { detailForm } from './errors.ts';
import { acceptedReply, operationFields } from './operations.ts';
import { route, type Dialect, type MutationPayload } from './route.ts';

const body = z.object({
  name: boundedText(255),
  environment: z.enum(['development', 'staging', 'production']),
});

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
    }),
  ],
};
