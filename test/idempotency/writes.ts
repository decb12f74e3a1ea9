/** What there is to write with, one line for each: how, and what else the same key may not be used for. */

/** A tenant, made for one test, and what belongs to it. */
export interface Subject {
  readonly id: string;
  readonly apiKeyId: string;
  /** Of a creation that waits for its time. */
  readonly waitingOperationId: string;
}

/** A way to write. `key`: in the input, where GraphQL may carry it. */
interface Line<Payload> {
  readonly same: (subject: Subject, unique: string) => Payload;
  /** Another payload for the same key. */
  readonly other: (subject: Subject, another: Subject, unique: string) => Payload;
  /** Each time leaves a trace, since each time tells a secret. */
  readonly tellsAgain: boolean;
}

function line<Payload>(
  same: Line<Payload>['same'],
  other: Line<Payload>['other'],
  { tellsAgain = false }: { readonly tellsAgain?: boolean } = {},
): Line<Payload> {
  return { same, other, tellsAgain };
}

/** A line whose payload is but the tenant: another one is another tenant. */
function ofTenant<Payload>(
  make: (subject: Subject) => Payload,
  options?: { readonly tellsAgain?: boolean },
): Line<Payload> {
  return line(make, (_subject, another) => make(another), options);
}

export interface Mutation {
  readonly input: Readonly<Record<string, unknown>>;
  readonly selection: string;
}

const operation = 'operation { id status }';

/** Every field of Mutation. */
export const mutations: Readonly<Record<string, Line<Mutation>>> = {
  createTenant: line(
    (_subject, unique) => ({
      input: { name: unique, isolation: 'SCHEMA' },
      selection: `tenant { id slug } apiKey ${operation}`,
    }),
    (_subject, _another, unique) => ({
      input: { name: unique, isolation: 'SCHEMA', description: 'other' },
      selection: 'tenant { id }',
    }),
  ),
  createTenantsBatch: line(
    (_subject, unique) => ({
      input: { tenants: [{ name: unique, isolation: 'SCHEMA' }] },
      selection: 'batch { id status results { apiKey tenant { id } } }',
    }),
    (_subject, _another, unique) => ({
      input: { tenants: [{ name: unique, isolation: 'SCHEMA' }], atomic: true },
      selection: 'batch { id }',
    }),
  ),
  updateTenant: line<Mutation>(
    ({ id }, unique) => ({ input: { id, description: unique }, selection: 'tenant { version }' }),
    ({ id }) => ({ input: { id, description: null }, selection: 'tenant { version }' }),
  ),
  deleteTenant: ofTenant(({ id }) => ({
    input: { id },
    selection: `tenant { status deletedAt } ${operation}`,
  })),
  rotateTenantApiKey: ofTenant(({ id }) => ({
    input: { id },
    selection: 'tenant { id } apiKey previousKeyExpiresAt',
  })),
  revokeTenantApiKey: line(
    ({ id, apiKeyId }) => ({
      input: { id, apiKeyId },
      selection: 'tenant { apiKeys { id revokedAt } }',
    }),
    ({ id }, { apiKeyId }) => ({ input: { id, apiKeyId }, selection: 'tenant { id }' }),
  ),
  revealTenantConnection: ofTenant(({ id }) => ({ input: { id }, selection: 'connectionString' }), {
    tellsAgain: true,
  }),
  cancelOperation: ofTenant(({ waitingOperationId: id }) => ({
    input: { id },
    selection: operation,
  })),
};

export interface Call {
  readonly path: string;
  readonly body?: object;
}

export interface Write extends Line<Call> {
  /** What `Prefer: respond-async` answers with; null: there is nothing to follow. */
  readonly follows: 'operations' | 'batches' | null;
}

function write(lined: Line<Call>, follows: Write['follows'] = 'operations'): Write {
  return { ...lined, follows };
}

const partners = '/api/provisioning/tenants';
const company = (name: string): object => ({ company_name: name, email: 'admin@example.com' });
const schema = (name: string, more: object = {}): object => ({
  tenant_name: name,
  domain: `${name}.example.com`,
  schema_name: name.replaceAll('-', '_'),
  ...more,
});

/** A creation, whose other payload is another name. */
function creation(path: string, body: (name: string) => object, follows?: Write['follows']): Write {
  return write(
    line(
      (_subject, unique) => ({ path, body: body(unique) }),
      (_subject, _another, unique) => ({ path, body: body(`${unique}-other`) }),
    ),
    follows,
  );
}

/** Every path and method of `/openapi.json` that writes; a body for each contract. */
export const writes: Readonly<Record<string, Write>> = {
  'POST /api/v1/tenants': creation('/api/v1/tenants', (name) => ({ name, environment: 'staging' })),
  'POST /api/tenants': creation('/api/tenants', (name) => ({ name, slug: name })),
  'POST /api/tenants (contract C)': creation('/api/tenants', schema),
  'DELETE /api/tenants/{slug}': write(ofTenant(({ id }) => ({ path: `/api/tenants/${id}` }))),
  'POST /api/tenants/batch': creation(
    '/api/tenants/batch',
    (name) => ({ tenants: [schema(name)] }),
    'batches',
  ),
  'POST /api/tenants/{tenant_id}/api-key/rotate': write(
    ofTenant(({ id }) => ({ path: `/api/tenants/${id}/api-key/rotate` })),
    null,
  ),
  'POST /api/provisioning/tenants': creation(partners, company),
  'PATCH /api/provisioning/tenants/{id}': write(
    line<Call>(
      ({ id }, unique) => ({ path: `${partners}/${id}`, body: { industry: unique } }),
      ({ id }) => ({ path: `${partners}/${id}`, body: { industry: null } }),
    ),
    null,
  ),
  'PUT /api/provisioning/tenants/{id}': write(
    line(
      ({ id }, unique) => ({ path: `${partners}/${id}`, body: company(unique) }),
      ({ id }, _another, unique) => ({
        path: `${partners}/${id}`,
        body: company(`${unique}-other`),
      }),
    ),
    null,
  ),
  'DELETE /api/provisioning/tenants/{id}': write(
    ofTenant(({ id }) => ({ path: `${partners}/${id}` })),
  ),
  'POST /api/provisioning/tenants/batch': creation(
    `${partners}/batch`,
    (name) => ({ tenants: [company(name)] }),
    'batches',
  ),
};
