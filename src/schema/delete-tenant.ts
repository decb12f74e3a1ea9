import type { TenantOutcome } from '../provisioning/request.ts';
import { builder } from './builder.ts';
import { OperationType } from './operation.ts';
import { TenantType } from './tenant.ts';
import { UserError } from './user-error.ts';

const DeleteTenantInput = builder.inputType('DeleteTenantInput', {
  description: 'A tenant to delete.',
  fields: (t) => ({
    id: t.id({ required: true, description: 'Its UUID.' }),
    expectedVersion: t.int({
      description: 'Its `version` as you know it: VERSION_MISMATCH when it was changed meanwhile.',
    }),
    idempotencyKey: t.string({ description: '1 to 255 characters; a retry with it is replayed.' }),
    wait: t.boolean({
      description: 'true (default): answer when the operation has ended. false: answer at once.',
    }),
  }),
});

const DeleteTenantPayload = builder.objectRef<TenantOutcome>('DeleteTenantPayload').implement({
  description: 'What came of `deleteTenant`.',
  fields: (t) => ({
    tenant: t.expose('tenant', {
      type: TenantType,
      nullable: true,
      description: 'The tenant as it is now.',
    }),
    operation: t.expose('operation', {
      type: OperationType,
      nullable: true,
      description: 'The operation; null when it was deleted already.',
    }),
    userErrors: t.field({
      type: [UserError],
      nullable: { list: false, items: false },
      description: 'Why not; empty on success.',
      resolve: (outcome) => outcome.failures,
    }),
  }),
});

builder.mutationField('deleteTenant', (t) =>
  t.field({
    type: DeleteTenantPayload,
    nullable: true,
    authScopes: { permission: 'tenant:delete' },
    description:
      'Deletes a tenant softly: nobody can log in any more, its sessions end, its data and names stay until `purgeAt`.',
    args: {
      input: t.arg({ type: DeleteTenantInput, required: true, description: 'Which tenant.' }),
    },
    resolve: (_root, { input }, context) =>
      context.gateway.provisioning.deleteTenant(context, input),
  }),
);
