/** What the matrix of callers and operations is made of: one line for each operation that there is. */

/** Everybody who may come. The tenant that it is all about belongs to partner A. */
export const callers = [
  'partner A',
  'partner B',
  'subject named like partner A',
  'viewer',
  'platform admin',
  'tenant key',
  'expired token',
  'wrong audience',
  'reserved partner',
  'no credentials',
] as const;
export type CallerName = (typeof callers)[number];

/** Those without valid credentials. */
export const strangers: readonly CallerName[] = [
  'expired token',
  'wrong audience',
  'reserved partner',
  'no credentials',
];
/** Those who can see what belongs to partner A's tenant. */
export const seers: readonly CallerName[] = ['partner A', 'viewer', 'platform admin', 'tenant key'];

/** Those who can see the batch that it was made with: its tenant sees itself alone. */
export const batchSeers: readonly CallerName[] = ['partner A', 'viewer', 'platform admin'];

const administrators: readonly CallerName[] = [
  'partner A',
  'partner B',
  'subject named like partner A',
  'platform admin',
];
const people: readonly CallerName[] = [...administrators, 'viewer'];

/** Who holds what, as security.md has it: not taken from the code. */
const holders = {
  nothing: [...people, 'tenant key'],
  'tenant:create': administrators,
  'tenant:read': [...people, 'tenant key'],
  'tenant:update': administrators,
  'tenant:delete': administrators,
  'tenant:purge': ['platform admin'],
  'tenant:operate': administrators,
  'tenant:connect': ['platform admin'],
  'fleet:read': ['platform admin'],
  'fleet:operate': ['platform admin'],
  'audit of its own': people,
  'tenant:operate, or its own key': [...administrators, 'tenant key'],
} as const satisfies Readonly<Record<string, readonly CallerName[]>>;

/** What an operation is tried on. */
export interface Target {
  readonly tenantId: string;
  readonly tenantNumber: number;
  readonly operationId: string;
  readonly batchId: string;
  readonly apiKeyId: string;
  /** Another one at every call. */
  readonly unique: string;
}

interface Line<Make> {
  /** Who may call it at all; the others are FORBIDDEN. */
  readonly allowed: readonly CallerName[];
  /** `tenant`, `batch`: it is about partner A's, which is not there for others. */
  readonly about: 'tenant' | 'batch' | 'caller';
  /** Takes tokens alone: a tenant's key is none. */
  readonly tokenOnly: boolean;
  /** Whether it spoils the tenant for whoever comes next. */
  readonly spoils: boolean;
  readonly make: (target: Target) => Make;
}

function line<Make>(
  needs: keyof typeof holders,
  make: (target: Target) => Make,
  {
    about = 'tenant',
    spoils = false,
    tokenOnly = false,
  }: Partial<Pick<Line<Make>, 'about' | 'spoils' | 'tokenOnly'>> = {},
): Line<Make> {
  return { allowed: holders[needs], about, spoils, tokenOnly, make };
}

const payload = '{ tenant { id } userErrors { code } }';

/** Every field of Query, Mutation and Subscription: who may, and a selection of it. */
export const fields: Readonly<Record<string, Line<string>>> = {
  'Query.viewer': line('nothing', () => 'viewer { kind }', { about: 'caller' }),
  'Query.tenant': line('tenant:read', ({ tenantId }) => `tenant(id: "${tenantId}") { id }`),
  'Query.tenants': line('tenant:read', () => 'tenants { nodes { id } totalCount }'),
  'Query.tenantsPage': line(
    'tenant:read',
    () => 'tenantsPage(page: 1, limit: 100) { nodes { id } }',
  ),
  'Query.operation': line(
    'tenant:read',
    ({ operationId }) => `operation(id: "${operationId}") { tenant { id } }`,
  ),
  'Query.operations': line('tenant:read', () => 'operations { nodes { tenant { id } } }'),
  'Query.batch': line(
    'tenant:read',
    ({ batchId }) => `batch(id: "${batchId}") { results { tenant { id } } }`,
    { about: 'batch' },
  ),
  'Query.batches': line(
    'tenant:read',
    () => 'batches(first: 100) { nodes { results { tenant { id } } } }',
    { about: 'batch' },
  ),
  'Query.tenantHealth': line(
    'tenant:read',
    ({ tenantId }) => `tenantHealth(ids: ["${tenantId}"]) { tenant { id } }`,
  ),
  'Query.auditLog': line('audit of its own', () => 'auditLog(first: 100) { nodes { tenantId } }'),
  'Query.driftReport': line('fleet:read', () => 'driftReport { kind }', { about: 'caller' }),
  'Mutation.createTenant': line(
    'tenant:create',
    ({ unique }) => `createTenant(input: { name: "${unique}" }) ${payload}`,
    { about: 'caller' },
  ),
  'Mutation.createTenantsBatch': line(
    'tenant:create',
    ({ unique }) =>
      `createTenantsBatch(input: { tenants: [{ name: "${unique}" }] }) { batch { id } userErrors { code } }`,
    { about: 'caller' },
  ),
  'Mutation.updateTenant': line(
    'tenant:update',
    ({ tenantId, unique }) =>
      `updateTenant(input: { id: "${tenantId}", description: "${unique}" }) ${payload}`,
  ),
  'Mutation.deleteTenant': line(
    'tenant:delete',
    ({ tenantId }) => `deleteTenant(input: { id: "${tenantId}" }) ${payload}`,
    { spoils: true },
  ),
  'Mutation.rotateTenantApiKey': line(
    'tenant:operate, or its own key',
    ({ tenantId }) => `rotateTenantApiKey(input: { id: "${tenantId}" }) ${payload}`,
  ),
  'Mutation.revokeTenantApiKey': line(
    'tenant:operate',
    ({ tenantId, apiKeyId }) =>
      `revokeTenantApiKey(input: { id: "${tenantId}", apiKeyId: "${apiKeyId}" }) ${payload}`,
    { spoils: true },
  ),
  'Mutation.revealTenantConnection': line(
    'tenant:connect',
    // The id stands in the name of the tenant's role, and so in the connection string.
    ({ tenantId }) =>
      `revealTenantConnection(input: { id: "${tenantId}" }) { connectionString userErrors { code } }`,
  ),
  'Mutation.cancelOperation': line(
    'tenant:create',
    // It has ended: whoever may see it is told so, and of whom it is.
    ({ operationId }) =>
      `cancelOperation(input: { id: "${operationId}" }) { operation { tenant { id } } userErrors { message } }`,
  ),
  'Subscription.tenantProvisioningProgress': line(
    'tenant:read',
    ({ operationId }) => `tenantProvisioningProgress(operationId: "${operationId}") { tenantId }`,
  ),
};

interface Call {
  readonly path: string;
  readonly body?: object;
}

const partners = '/api/provisioning/tenants';
const company = (name: string): object => ({ company_name: name, email: 'admin@example.com' });
const tokenOnly = true;

/** Every path and method of `/openapi.json` that is for callers. */
export const routes: Readonly<Record<string, Line<Call>>> = {
  'POST /api/v1/tenants': line(
    'tenant:create',
    ({ unique }) => ({ path: '/api/v1/tenants', body: { name: unique, environment: 'staging' } }),
    { about: 'caller' },
  ),
  'POST /api/tenants': line(
    'tenant:create',
    ({ unique }) => ({ path: '/api/tenants', body: { name: unique, slug: unique } }),
    { about: 'caller' },
  ),
  'GET /api/tenants': line('tenant:read', () => ({ path: '/api/tenants?limit=100' })),
  'GET /api/tenants/{slug}': line('tenant:read', ({ tenantId }) => ({
    path: `/api/tenants/${tenantId}`,
  })),
  'DELETE /api/tenants/{slug}': line(
    'tenant:delete',
    ({ tenantId }) => ({ path: `/api/tenants/${tenantId}` }),
    { spoils: true },
  ),
  'POST /api/provisioning/tenants': line(
    'tenant:create',
    ({ unique }) => ({ path: partners, body: company(unique) }),
    { about: 'caller', tokenOnly },
  ),
  'GET /api/provisioning/tenants': line('tenant:read', () => ({ path: `${partners}?limit=100` }), {
    tokenOnly,
  }),
  'GET /api/provisioning/tenants/{id}': line(
    'tenant:read',
    ({ tenantId }) => ({ path: `${partners}/${tenantId}` }),
    { tokenOnly },
  ),
  'PATCH /api/provisioning/tenants/{id}': line(
    'tenant:update',
    ({ tenantId }) => ({ path: `${partners}/${tenantId}`, body: { industry: 'Law' } }),
    { tokenOnly },
  ),
  'PUT /api/provisioning/tenants/{id}': line(
    'tenant:update',
    ({ tenantId, unique }) => ({ path: `${partners}/${tenantId}`, body: company(unique) }),
    { tokenOnly },
  ),
  'DELETE /api/provisioning/tenants/{id}': line(
    'tenant:delete',
    ({ tenantId }) => ({ path: `${partners}/${tenantId}` }),
    { tokenOnly, spoils: true },
  ),
  'POST /api/tenants/batch': line(
    'tenant:create',
    ({ unique }) => ({
      path: '/api/tenants/batch',
      body: {
        tenants: [
          {
            tenant_name: unique,
            domain: `${unique}.example.com`,
            schema_name: unique.replaceAll('-', '_'),
          },
        ],
      },
    }),
    { about: 'caller' },
  ),
  'GET /api/tenants/health': line('tenant:read', () => ({ path: '/api/tenants/health' })),
  'GET /api/tenants/{tenant_id}/status': line('tenant:read', ({ tenantId }) => ({
    path: `/api/tenants/${tenantId}/status`,
  })),
  'POST /api/tenants/{tenant_id}/api-key/rotate': line(
    'tenant:operate, or its own key',
    ({ tenantId }) => ({ path: `/api/tenants/${tenantId}/api-key/rotate` }),
  ),
  'POST /api/provisioning/tenants/batch': line(
    'tenant:create',
    ({ unique }) => ({ path: `${partners}/batch`, body: { tenants: [company(unique)] } }),
    { about: 'caller', tokenOnly },
  ),
  'GET /api/batches/{id}': line(
    'tenant:read',
    ({ batchId }) => ({ path: `/api/batches/${batchId}` }),
    {
      about: 'batch',
    },
  ),
  'GET /api/batches/{id}/events': line(
    'tenant:read',
    ({ batchId }) => ({ path: `/api/batches/${batchId}/events` }),
    { about: 'batch' },
  ),
  'GET /api/operations': line('tenant:read', () => ({ path: '/api/operations?limit=100' })),
  'GET /api/operations/{id}': line('tenant:read', ({ operationId }) => ({
    path: `/api/operations/${operationId}`,
  })),
  'GET /api/operations/{id}/events': line('tenant:read', ({ operationId }) => ({
    path: `/api/operations/${operationId}/events`,
  })),
};

/** Paths that ask nobody who he is. */
export const publicRoutes: readonly string[] = [
  'GET /',
  'GET /docs',
  'GET /livez',
  'GET /openapi.json',
  'GET /portal',
  'GET /readyz',
];
