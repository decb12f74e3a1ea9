import { z } from 'zod';
import { healthStatuses } from '../provisioning/health.ts';
import { lowerCase } from './body-schemas.ts';
import { route } from './route.ts';

interface Health {
  readonly tenantHealth: readonly {
    readonly tenant: {
      readonly number: number;
      readonly name: string;
      readonly database: { readonly schemaName: string | null } | null;
    };
    readonly status: string;
    readonly reachable: boolean;
    readonly schemaValid: boolean;
    readonly error: string | null;
  }[];
}

const healthSchema = z
  .array(
    z.object({
      tenant_id: z.int().meta({ description: 'Its number.' }),
      tenant_name: z.string(),
      schema_name: z.string().nullable().meta({ description: 'Null: a database of its own.' }),
      schema_valid: z.boolean().meta({
        description: 'Whether the required tables are there, and no tenant migration is missing.',
      }),
      db_accessible: z.boolean().meta({ description: 'Whether its own credentials open it.' }),
      overall_health: z.enum(lowerCase(healthStatuses)),
      error: z.string().optional().meta({ description: 'Of `error`: why.' }),
    }),
  )
  .meta({ id: 'TenantHealthC', description: 'How the databases of all tenants are.' });

/** `GET /api/tenants/health`: how the databases of all tenants are. */
export const healthRoute = route<null, Health>({
  method: 'GET',
  path: '/api/tenants/health',
  document: /* GraphQL */ `
    query TenantHealth {
      tenantHealth {
        tenant {
          number
          name
          database {
            schemaName
          }
        }
        status
        reachable
        schemaValid
        error
      }
    }
  `,
  variables: () => ({}),
  respond: ({ tenantHealth }) => ({
    status: 200,
    body: tenantHealth.map(({ error, reachable, schemaValid, status, tenant }) => ({
      tenant_id: tenant.number,
      tenant_name: tenant.name,
      schema_name: tenant.database?.schemaName ?? null,
      schema_valid: schemaValid,
      db_accessible: reachable,
      overall_health: status.toLowerCase(),
      ...(status === 'ERROR' ? { error: error ?? 'It could not be looked at' } : {}),
    })),
  }),
  docs: {
    operationId: 'getTenantsHealthC',
    summary: 'How the databases of all tenants are',
    description:
      'Connects to each with the tenant’s own credentials, and looks for the required tables and the newest migration. Tenants that are suspended or deleted are left out.',
    replies: {
      200: {
        description: 'How each is, the oldest tenant first.',
        schema: healthSchema,
        example: [
          {
            tenant_id: 1,
            tenant_name: 'demo_company',
            schema_name: 'demo_schema',
            schema_valid: true,
            db_accessible: true,
            overall_health: 'healthy',
          },
        ],
      },
    },
  },
});
