import type { BatchOutcome } from '../provisioning/batch-creation.ts';
import { TenantBatch } from './batch.ts';
import { builder } from './builder.ts';
import { CreateTenantInput } from './create-tenant.ts';
import { UserError } from './user-error.ts';

const CreateTenantsBatchInput = builder.inputType('CreateTenantsBatchInput', {
  description: 'Tenants to make together.',
  fields: (t) => ({
    tenants: t.field({
      type: [CreateTenantInput],
      required: true,
      description: 'The tenants, 1 to `MAX_TENANTS_PER_BATCH`.',
    }),
    atomic: t.boolean({
      description:
        'true: all or nothing; what was made is undone when one fails. Default false: each by itself.',
    }),
    provisionAt: t.field({
      type: 'DateTime',
      description:
        'Make them then, not now; at most 366 days ahead. A tenant may have a time of its own, but for an atomic batch.',
    }),
    idempotencyKey: t.string({
      description:
        '1 to 255 characters. The same key with the same input is the same batch, never a second one.',
    }),
    wait: t.boolean({
      description: 'true (default): answer when all have ended. false: answer at once.',
    }),
  }),
});

const CreateTenantsBatchPayload = builder
  .objectRef<BatchOutcome>('CreateTenantsBatchPayload')
  .implement({
    description: 'What came of `createTenantsBatch`.',
    fields: (t) => ({
      batch: t.field({
        type: TenantBatch,
        nullable: true,
        description: 'The batch; null when it was refused as a whole.',
        resolve: ({ apiKeys, batch }) => (batch === null ? null : { ...batch, apiKeys }),
      }),
      userErrors: t.field({
        type: [UserError],
        nullable: { list: false, items: false },
        description:
          'Why the batch was refused as a whole; what is wrong with one tenant stands in its result.',
        resolve: (outcome) => outcome.failures,
      }),
    }),
  });

builder.mutationField('createTenantsBatch', (t) =>
  t.field({
    type: CreateTenantsBatchPayload,
    nullable: true,
    authScopes: { permission: 'tenant:create' },
    description:
      'Makes several tenants at once. Each is made by itself, on whichever instance has room; with `atomic`, all or none.',
    args: {
      input: t.arg({ type: CreateTenantsBatchInput, required: true, description: 'The tenants.' }),
    },
    resolve: (_root, { input }, context) =>
      context.gateway.provisioning.createTenantsBatch(context, input),
  }),
);
