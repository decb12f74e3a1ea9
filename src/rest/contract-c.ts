import { z } from 'zod';
import { tenantDatabaseStatuses } from '../control/tenant-databases.ts';
import type { Failure } from '../errors.ts';
import { batchRoute } from './batch-route.ts';
import { lowerCase, time, timeOrNull } from './body-schemas.ts';
import { boundedText, messageFor, toIssue } from './body.ts';
import { healthRoute } from './contract-c-health.ts';
import { codeBody } from './error-bodies.ts';
import { codeForm, type ErrorForm, type Issue } from './errors.ts';
import { acceptedDocs } from './operation-docs.ts';
import { acceptedReply, operationFields } from './operations.ts';
import { creationProblems } from './problems.ts';
import { route, type Dialect, type MutationPayload } from './route.ts';
import { tenantStatus } from './tenant-body.ts';

const whole = (max: number, fallback: number) =>
  z.int().optional().meta({ minimum: 1, maximum: max, default: fallback });

const creation = z
  .object({
    tenant_name: boundedText(255),
    // Checked by `createTenant`, whose rules these are.
    domain: z.string().meta({ maxLength: 255, description: 'Unique without case.' }),
    schema_name: z
      .string()
      .meta({ maxLength: 63, pattern: '^[a-zA-Z_][a-zA-Z0-9_]*$', description: 'Unique.' }),
    description: z.string().nullish(),
    settings: z
      .object({
        features: z.array(z.string()).nullish(),
        limits: z
          .object({ users: whole(10_000, 100).nullish(), storage_gb: whole(1000, 50).nullish() })
          .nullish(),
      })
      .nullish(),
  })
  .meta({ id: 'NewTenantC', description: 'A tenant as contract C asks for it.' });
type Creation = z.output<typeof creation>;

interface Tenant {
  readonly number: number;
  readonly name: string;
  readonly domain: string | null;
  readonly database: { readonly schemaName: string | null } | null;
}

const tenantFields = 'number name domain database { schemaName }';

function inputOf({ description, domain, schema_name, settings, tenant_name }: Creation): object {
  const { features, limits } = settings ?? {};
  return {
    name: tenant_name,
    domain,
    schemaName: schema_name,
    isolation: 'SCHEMA',
    description,
    settings: {
      features,
      limits: { users: limits?.users, storageGb: limits?.storage_gb },
    },
  };
}

function shown({ database, domain, number }: Tenant, apiKey: string | null): object {
  return {
    tenant_id: number,
    api_key: apiKey,
    schema_name: database?.schemaName ?? null,
    domain,
  };
}

const shownSchema = {
  tenant_id: z.int().meta({ description: 'Its number.' }),
  api_key: z.string().nullable().meta({ description: 'Shown this once.' }),
  schema_name: z.string().nullable(),
  domain: z.string().nullable(),
};

/** Names of the API, as this contract has them. */
const fieldNames: Readonly<Record<string, string>> = {
  name: 'tenant_name',
  schemaName: 'schema_name',
  storageGb: 'storage_gb',
};

/** A problem with a field, as this contract's clients know it. */
function fieldMessage(issue: Issue): string {
  const { message, type } = issue;
  const [field] = issue.path;
  if (type === 'missing') return messageFor([issue]);
  if (field === 'domain') return `Invalid domain format: ${message}`;
  if (field === 'schema_name') {
    return message.startsWith('Invalid schema name') ? message : `Invalid schema name: ${message}`;
  }
  return messageFor([issue]);
}

function renamed(issue: Issue): Issue {
  const message = issue.message.replace(
    /\b(schemaName|storageGb)\b/g,
    (name) => fieldNames[name] ?? name,
  );
  return { ...issue, message, path: issue.path.map((part) => fieldNames[part] ?? part) };
}

const errors: ErrorForm = (problem) => {
  const issues = problem.issues?.map(renamed);
  const [first] = issues ?? [];
  const known = first !== undefined && (problem.code === 'INVALID' || first.type === 'missing');
  return codeForm({
    ...problem,
    ...(issues === undefined ? {} : { issues }),
    ...(known && first.path.length > 0 ? { message: fieldMessage(first) } : {}),
  });
};

function problemOf(issue: Failure | z.core.$ZodIssue): string {
  if ('path' in issue) return fieldMessage(toIssue(issue));
  if (issue.code !== 'INVALID') return issue.message;
  // Behind the argument and the item's place.
  const path = (issue.field ?? []).slice(3);
  return fieldMessage(renamed({ type: 'value_error', path, message: issue.message }));
}

const example = {
  tenant_name: 'demo_company',
  domain: 'demo.example.com',
  schema_name: 'demo_schema',
};

interface Created {
  readonly createTenant: MutationPayload & {
    readonly tenant: Tenant | null;
    readonly apiKey: string | null;
  };
}

const createRoute = route<Creation, Created>({
  method: 'POST',
  path: '/api/tenants',
  body: creation,
  takes: (json) =>
    typeof json === 'object' && json !== null && ('tenant_name' in json || 'schema_name' in json),
  document: /* GraphQL */ `
    mutation CreateTenant($input: CreateTenantInput!) {
      createTenant(input: $input) {
        tenant { ${tenantFields} }
        apiKey
        operation { ${operationFields} }
        userErrors { code message field }
      }
    }
  `,
  variables: ({ body, wait }) => ({ input: { ...inputOf(body), wait } }),
  respond: ({ createTenant: { apiKey, operation, tenant } }, { wait }) => {
    if (!wait) return acceptedReply(operation);
    if (tenant === null) return null;
    const body = { tenant_name: tenant.name, status: 'success', ...shown(tenant, apiKey) };
    return { status: 201, body };
  },
  docs: {
    operationId: 'createTenantC',
    summary: 'Make a tenant',
    description:
      'A body with `tenant_name` or `schema_name` asks for a schema of its own; the API key is shown this once.',
    requests: {
      schema: { summary: 'A tenant in a schema of its own', value: example },
      settings: {
        summary: 'With features and limits',
        value: {
          tenant_name: 'Globex GmbH',
          domain: 'globex.example.com',
          schema_name: 'globex',
          description: 'Trial',
          settings: { features: ['basic', 'webhooks'], limits: { users: 10, storage_gb: 5 } },
        },
      },
    },
    replies: {
      201: {
        description: 'The schema is there, verified and registered.',
        schema: z
          .object({ tenant_name: z.string(), status: z.literal('success'), ...shownSchema })
          .meta({ id: 'CreatedTenantC', description: 'A new tenant as contract C tells of it.' }),
        example: {
          tenant_name: example.tenant_name,
          status: 'success',
          tenant_id: 1,
          api_key: 'tk_demo_com_…',
          schema_name: example.schema_name,
          domain: example.domain,
        },
        links: { getTenantStatusC: { tenant_id: 'tenant_id' } },
      },
      202: acceptedDocs('CREATE'),
    },
    problems: { TAKEN: 'Domain already exists: demo.example.com', ...creationProblems },
  },
});

const batch = { tenant_name: 'batch_one', domain: 'one.example.com', schema_name: 'batch_one' };

const createBatchRoute = batchRoute<Creation, Tenant>({
  path: '/api/tenants/batch',
  operationId: 'createBatchC',
  item: creation,
  nameField: 'tenant_name',
  problemOf,
  input: inputOf,
  fields: tenantFields,
  shown,
  shownSchema,
  requests: {
    two: {
      summary: 'Two tenants',
      value: {
        tenants: [
          batch,
          { tenant_name: 'batch_two', domain: 'two.example.com', schema_name: 'batch_two' },
        ],
      },
    },
    atomic: {
      summary: 'All or nothing',
      value: {
        tenants: [
          { tenant_name: 'batch_all', domain: 'all.example.com', schema_name: 'batch_all' },
        ],
        atomic: true,
      },
    },
  },
});

const params = { tenant_id: { description: 'Its number; its UUID does too.', example: '1' } };

interface Status {
  readonly tenant:
    | (Tenant & {
        readonly status: string;
        readonly createdAt: string;
        readonly lastActivityAt: string | null;
        readonly database: {
          readonly status: string;
          readonly migrationVersion: string | null;
        } | null;
      })
    | null;
}

const gone: ReadonlySet<string> = new Set(['PURGED', 'FAILED']);

const statusRoute = route<null, Status>({
  method: 'GET',
  path: '/api/tenants/:tenant_id/status',
  tenantKey: 'tenant_id',
  document: /* GraphQL */ `
    query TenantStatus($id: ID!) {
      tenant(id: $id) {
        number
        name
        domain
        status
        createdAt
        lastActivityAt
        database {
          schemaName
          status
          migrationVersion
        }
      }
    }
  `,
  variables: ({ tenantId }) => ({ id: tenantId }),
  respond: ({ tenant }) =>
    tenant === null || gone.has(tenant.status)
      ? null
      : {
          status: 200,
          body: {
            tenant_id: tenant.number,
            tenant_name: tenant.name,
            status: tenant.status.toLowerCase(),
            schema_status: tenant.database?.status.toLowerCase() ?? null,
            migration_version: tenant.database?.migrationVersion ?? null,
            created_at: tenant.createdAt,
            last_activity: tenant.lastActivityAt,
          },
        },
  docs: {
    operationId: 'getTenantStatusC',
    summary: 'How a tenant is',
    description: 'Its status, that of its schema, and when it was last active.',
    params,
    replies: {
      200: {
        description: 'Its status.',
        schema: z
          .object({
            tenant_id: z.int(),
            tenant_name: z.string(),
            status: tenantStatus,
            schema_status: z.enum(lowerCase(tenantDatabaseStatuses)).nullable(),
            migration_version: z.string().nullable(),
            created_at: time('When it was asked for.'),
            last_activity: timeOrNull('When its API key was last used.'),
          })
          .meta({ id: 'TenantStatusC', description: 'How a tenant is.' }),
      },
    },
    problems: { NOT_FOUND: 'Not found' },
  },
});

interface Rotated {
  readonly rotateTenantApiKey: MutationPayload & {
    readonly tenant: { readonly number: number } | null;
    readonly apiKey: string | null;
    readonly previousKeyExpiresAt: string | null;
  };
}

const rotateRoute = route<null, Rotated>({
  method: 'POST',
  path: '/api/tenants/:tenant_id/api-key/rotate',
  tenantKey: 'tenant_id',
  document: /* GraphQL */ `
    mutation RotateTenantApiKey($input: RotateTenantApiKeyInput!) {
      rotateTenantApiKey(input: $input) {
        tenant {
          number
        }
        apiKey
        previousKeyExpiresAt
        userErrors {
          code
          message
          field
        }
      }
    }
  `,
  variables: ({ tenantId }) => ({ input: { id: tenantId } }),
  respond: ({ rotateTenantApiKey: { apiKey, previousKeyExpiresAt, tenant } }) =>
    tenant === null
      ? null
      : {
          status: 200,
          body: {
            tenant_id: tenant.number,
            api_key: apiKey,
            previous_key_expires_at: previousKeyExpiresAt,
          },
        },
  docs: {
    operationId: 'rotateApiKeyC',
    summary: 'A new API key',
    description: 'The earlier one works on for `API_KEY_OVERLAP_SECONDS`.',
    params,
    replies: {
      200: {
        description: 'The new key, shown this once.',
        schema: z
          .object({
            tenant_id: z.int(),
            api_key: z.string(),
            previous_key_expires_at: timeOrNull('When the earlier one stops working.'),
          })
          .meta({ id: 'RotatedApiKey', description: 'A new API key.' }),
      },
    },
    without: ['PROVISIONING_FAILED', 'TIMED_OUT'],
    problems: {
      NOT_FOUND: 'Not found',
      INVALID_STATE: 'The API key of a tenant that is DELETED cannot be rotated',
    },
  },
});

/** Contract C: `/api/tenants` by its bodies, `/api/tenants/batch`; a schema for each tenant. */
export const contractC: Dialect = {
  name: 'C',
  prefix: '/api/tenants',
  errors,
  apiKeyOnCreate: true,
  docs: {
    tag: 'Contract C',
    description: 'A schema for each tenant, at `/api/tenants` and `/api/tenants/batch`.',
    errorBody: codeBody,
  },
  routes: [createBatchRoute, createRoute, healthRoute, statusRoute, rotateRoute],
};
