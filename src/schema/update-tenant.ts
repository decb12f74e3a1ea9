import type { UpdateOutcome } from '../provisioning/update.ts';
import { builder } from './builder.ts';
import { TenantSettingsInput } from './create-tenant.ts';
import { Environment, TenantType } from './tenant.ts';
import { UserError } from './user-error.ts';

const UpdateTenantInput = builder.inputType('UpdateTenantInput', {
  description: 'What to change of a tenant. What is absent stays as it is.',
  fields: (t) => ({
    id: t.id({ required: true, description: 'Its UUID.' }),
    expectedVersion: t.int({
      description: 'Its `version` as you know it: VERSION_MISMATCH when it was changed meanwhile.',
    }),
    idempotencyKey: t.string({ description: '1 to 255 characters; a retry with it is replayed.' }),
    name: t.string({ description: '1 to 255 characters.' }),
    uniqueName: t.boolean({
      description: 'true: TAKEN when this partner has another tenant of the new name.',
    }),
    environment: t.field({ type: Environment, description: 'What it is used for.' }),
    domain: t.string({ description: 'Unique without case; null: none.' }),
    description: t.string({ description: 'At most 4000 characters; null: none.' }),
    email: t.string({ description: 'Whom to write to; null: nobody.' }),
    phoneNumber: t.string({ description: 'Whom to call; null: nobody.' }),
    industry: t.string({ description: 'Line of business; null: none.' }),
    settings: t.field({
      type: TenantSettingsInput,
      description: 'Features and limits; of these too, what is absent stays.',
    }),
    deletionProtection: t.boolean({ description: 'While set, delete and purge are refused.' }),
  }),
});

const UpdateTenantPayload = builder.objectRef<UpdateOutcome>('UpdateTenantPayload').implement({
  description: 'What came of `updateTenant`.',
  fields: (t) => ({
    tenant: t.expose('tenant', {
      type: TenantType,
      nullable: true,
      description: 'The tenant as it is now; null when it is not there, or the input is wrong.',
    }),
    userErrors: t.field({
      type: [UserError],
      nullable: { list: false, items: false },
      description: 'All that is wrong with the input, or why not; empty on success.',
      resolve: (outcome) => outcome.failures,
    }),
  }),
});

builder.mutationField('updateTenant', (t) =>
  t.field({
    type: UpdateTenantPayload,
    nullable: true,
    authScopes: { permission: 'tenant:update' },
    description:
      'Changes what describes a tenant that is ACTIVE or SUSPENDED, its settings and its protection.',
    args: {
      input: t.arg({ type: UpdateTenantInput, required: true, description: 'Which, and what.' }),
    },
    resolve: (_root, { input }, context) =>
      context.gateway.provisioning.updateTenant(context, input),
  }),
);
