import { isTenantKey } from '../auth/permissions.ts';
import type { RevokeApiKeyOutcome, RotateApiKeyOutcome } from '../provisioning/api-keys.ts';
import { builder } from './builder.ts';
import { TenantType } from './tenant.ts';
import { UserError } from './user-error.ts';

const RotateTenantApiKeyInput = builder.inputType('RotateTenantApiKeyInput', {
  description: 'A tenant that is to get a new API key.',
  fields: (t) => ({
    id: t.id({ required: true, description: 'Its UUID.' }),
    idempotencyKey: t.string({ description: '1 to 255 characters; a retry with it is replayed.' }),
  }),
});

const RotateTenantApiKeyPayload = builder
  .objectRef<RotateApiKeyOutcome>('RotateTenantApiKeyPayload')
  .implement({
    description: 'What came of `rotateTenantApiKey`.',
    fields: (t) => ({
      tenant: t.expose('tenant', { type: TenantType, nullable: true, description: 'The tenant.' }),
      apiKey: t.exposeString('apiKey', {
        nullable: true,
        description: 'The new API key. Shown this once.',
      }),
      previousKeyExpiresAt: t.expose('previousKeyExpiresAt', {
        type: 'DateTime',
        nullable: true,
        description: 'When the earlier ones stop working; null: there is none that works.',
      }),
      userErrors: t.field({
        type: [UserError],
        nullable: { list: false, items: false },
        description: 'Why not; empty on success.',
        resolve: (outcome) => outcome.failures,
      }),
    }),
  });

const RevokeTenantApiKeyInput = builder.inputType('RevokeTenantApiKeyInput', {
  description: 'An API key to end.',
  fields: (t) => ({
    id: t.id({ required: true, description: 'UUID of the tenant.' }),
    apiKeyId: t.id({ required: true, description: 'UUID of the key, see `Tenant.apiKeys`.' }),
    idempotencyKey: t.string({ description: '1 to 255 characters; a retry with it is replayed.' }),
  }),
});

const RevokeTenantApiKeyPayload = builder
  .objectRef<RevokeApiKeyOutcome>('RevokeTenantApiKeyPayload')
  .implement({
    description: 'What came of `revokeTenantApiKey`.',
    fields: (t) => ({
      tenant: t.expose('tenant', { type: TenantType, nullable: true, description: 'The tenant.' }),
      userErrors: t.field({
        type: [UserError],
        nullable: { list: false, items: false },
        description: 'Why not; empty on success.',
        resolve: (outcome) => outcome.failures,
      }),
    }),
  });

builder.mutationField('rotateTenantApiKey', (t) =>
  t.field({
    type: RotateTenantApiKeyPayload,
    nullable: true,
    authScopes: (_root, _args, { caller }) =>
      isTenantKey(caller) ? true : { permission: 'tenant:operate' },
    description:
      'Gives a tenant a new API key. Those it has work on for a while, so that nobody is cut off. A tenant may do so with its own key.',
    args: {
      input: t.arg({ type: RotateTenantApiKeyInput, required: true, description: 'Which tenant.' }),
    },
    resolve: (_root, { input }, context) =>
      context.gateway.provisioning.rotateTenantApiKey(context, input),
  }),
);

builder.mutationField('revokeTenantApiKey', (t) =>
  t.field({
    type: RevokeTenantApiKeyPayload,
    nullable: true,
    authScopes: { permission: 'tenant:operate' },
    description: 'Ends an API key at once, on all instances, and the subscriptions of its bearer.',
    args: {
      input: t.arg({ type: RevokeTenantApiKeyInput, required: true, description: 'Which key.' }),
    },
    resolve: (_root, { input }, context) =>
      context.gateway.provisioning.revokeTenantApiKey(context, input),
  }),
);
