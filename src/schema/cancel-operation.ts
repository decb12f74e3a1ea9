import type { OperationOutcome } from '../provisioning/cancellation.ts';
import { builder } from './builder.ts';
import { OperationType } from './operation.ts';
import { UserError } from './user-error.ts';

const CancelOperationInput = builder.inputType('CancelOperationInput', {
  description: 'An operation to cancel.',
  fields: (t) => ({
    id: t.id({ required: true, description: 'UUID of the operation.' }),
    idempotencyKey: t.string({ description: '1 to 255 characters; a retry with it is replayed.' }),
  }),
});

const CancelOperationPayload = builder
  .objectRef<OperationOutcome>('CancelOperationPayload')
  .implement({
    description: 'What came of `cancelOperation`.',
    fields: (t) => ({
      operation: t.expose('operation', {
        type: OperationType,
        nullable: true,
        description: 'The operation as it is now; null when it is not there.',
      }),
      userErrors: t.field({
        type: [UserError],
        nullable: { list: false, items: false },
        description: 'Why not; empty on success.',
        resolve: (outcome) => outcome.failures,
      }),
    }),
  });

builder.mutationField('cancelOperation', (t) =>
  t.field({
    type: CancelOperationPayload,
    nullable: true,
    authScopes: { permission: 'tenant:create' },
    description:
      'Cancels a creation that is SCHEDULED, or QUEUED in a batch: its tenant is FAILED, and its names are free. One of an atomic batch takes all others along. INVALID_STATE once it has begun.',
    args: {
      input: t.arg({ type: CancelOperationInput, required: true, description: 'Which one.' }),
    },
    resolve: (_root, { input }, context) =>
      context.gateway.provisioning.cancelOperation(context, input),
  }),
);
