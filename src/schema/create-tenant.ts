import { databaseNamings } from '../provisioning/commands.ts';
import type { TenantOutcome } from '../provisioning/request.ts';
import { builder } from './builder.ts';
import { described } from './inputs.ts';
import { OperationType } from './operation.ts';
import { Environment, Isolation, TenantType } from './tenant.ts';
import { UserError } from './user-error.ts';

const DatabaseNaming = builder.enumType('DatabaseNaming', {
  description: 'What the name of a tenant’s database is made from.',
  values: described(databaseNamings, {
    TENANT_ID: '`car_` and the tenant id.',
    SLUG: '`dbtools_tenant_` and the slug.',
  }),
});

const TenantLimitsInput = builder.inputType('TenantLimitsInput', {
  description: 'How much a tenant may use.',
  fields: (t) => ({
    users: t.int({ description: 'Users, 1 to 10000; default 100.' }),
    storageGb: t.int({ description: 'Storage in GB, 1 to 1000; default 50.' }),
  }),
});

export const TenantSettingsInput = builder.inputType('TenantSettingsInput', {
  description: 'Features and limits of a tenant.',
  fields: (t) => ({
    features: t.stringList({
      description: 'Features to switch on, out of the available ones; at most 100 entries.',
    }),
    limits: t.field({ type: TenantLimitsInput, description: 'How much it may use.' }),
  }),
});

export const CreateTenantInput = builder.inputType('CreateTenantInput', {
  description: 'A tenant to make.',
  fields: (t) => ({
    name: t.string({ required: true, description: '1 to 255 characters.' }),
    uniqueName: t.boolean({
      description: 'true: TAKEN when this partner has a tenant of this name. Default false.',
    }),
    slug: t.string({
      description:
        'Unique; `^[a-z][a-z0-9]*([-_][a-z0-9]+)*$`, at most 48 characters. Derived from the name when absent.',
    }),
    environment: t.field({ type: Environment, description: 'Default PRODUCTION.' }),
    isolation: t.field({ type: Isolation, description: 'Default DATABASE.' }),
    databaseNaming: t.field({
      type: DatabaseNaming,
      description: 'Default TENANT_ID; DATABASE isolation only.',
    }),
    schemaName: t.string({
      description:
        'SCHEMA isolation only: the name of the schema, unique; `^[a-zA-Z_][a-zA-Z0-9_]*$`, at most 63 bytes. Made from the slug when absent.',
    }),
    cluster: t.string({
      description: 'Name of a configured cluster; chosen by weight and room when absent.',
    }),
    partner: t.string({
      description:
        'Who it belongs to; platform administrators and the local operator only. Default: your own.',
    }),
    domain: t.string({ description: 'Unique without case, e.g. `acme.example.com`.' }),
    description: t.string({ description: 'Free text, at most 4000 characters.' }),
    email: t.string({ description: 'Whom to write to.' }),
    phoneNumber: t.string({ description: 'Whom to call.' }),
    industry: t.string({ description: 'Line of business, at most 255 characters.' }),
    settings: t.field({ type: TenantSettingsInput, description: 'Features and limits.' }),
    deletionProtection: t.boolean({ description: 'While set, delete and purge are refused.' }),
    provisionAt: t.field({
      type: 'DateTime',
      description:
        'Make it then, not now; at most 366 days ahead. Its names are taken at once, and the answer comes at once.',
    }),
    idempotencyKey: t.string({
      description:
        '1 to 255 characters. The same key with the same input is the same tenant, never a second one.',
    }),
    wait: t.boolean({
      description: 'true (default): answer when the operation has ended. false: answer at once.',
    }),
  }),
});

const CreateTenantPayload = builder.objectRef<TenantOutcome>('CreateTenantPayload').implement({
  description: 'What came of `createTenant`.',
  fields: (t) => ({
    tenant: t.expose('tenant', {
      type: TenantType,
      nullable: true,
      description: 'The tenant; ACTIVE when it was waited for.',
    }),
    operation: t.expose('operation', {
      type: OperationType,
      nullable: true,
      description: 'The operation that makes it.',
    }),
    apiKey: t.exposeString('apiKey', {
      nullable: true,
      description: 'The tenant’s API key. Shown this once.',
    }),
    userErrors: t.field({
      type: [UserError],
      nullable: { list: false, items: false },
      description: 'All that is wrong with the input, or why it failed; empty on success.',
      resolve: (outcome) => outcome.failures,
    }),
  }),
});

builder.mutationField('createTenant', (t) =>
  t.field({
    type: CreateTenantPayload,
    nullable: true,
    authScopes: { permission: 'tenant:create' },
    description:
      'Makes a tenant with a database or a schema of its own: created, verified with its own credentials, sealed.',
    args: { input: t.arg({ type: CreateTenantInput, required: true, description: 'The tenant.' }) },
    resolve: (_root, { input }, context) =>
      context.gateway.provisioning.createTenant(context, input),
  }),
);
