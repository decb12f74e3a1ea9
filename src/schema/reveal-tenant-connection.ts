import type { RevealOutcome } from '../provisioning/reveal.ts';
import { builder } from './builder.ts';
import { UserError } from './user-error.ts';

const RevealTenantConnectionInput = builder.inputType('RevealTenantConnectionInput', {
  description: 'Whose connection string to reveal.',
  fields: (t) => ({
    id: t.id({ required: true, description: 'UUID of the tenant.' }),
    idempotencyKey: t.string({
      description: '1 to 255 characters; a retry with it is told again, and recorded again.',
    }),
  }),
});

const RevealTenantConnectionPayload = builder
  .objectRef<RevealOutcome>('RevealTenantConnectionPayload')
  .implement({
    description: 'What came of `revealTenantConnection`.',
    fields: (t) => ({
      connectionString: t.exposeString('connectionString', {
        nullable: true,
        description: 'A secret: opens the tenant’s database with its own credentials.',
      }),
      userErrors: t.field({
        type: [UserError],
        nullable: { list: false, items: false },
        description: 'Why not; empty on success.',
        resolve: (outcome) => outcome.failures,
      }),
    }),
  });

builder.mutationField('revealTenantConnection', (t) =>
  t.field({
    type: RevealTenantConnectionPayload,
    nullable: true,
    authScopes: { permission: 'tenant:connect' },
    description:
      'Reveals the connection string of an ACTIVE tenant. Each time is in the audit log before it is told.',
    args: {
      input: t.arg({
        type: RevealTenantConnectionInput,
        required: true,
        description: 'Which tenant.',
      }),
    },
    resolve: (_root, { input }, context) =>
      context.gateway.provisioning.revealTenantConnection(context, input),
  }),
);
