import { findCurrentOperation, findOperation } from '../control/operations.ts';
import type { ProgressEvent } from '../control/read-events.ts';
import { Refusal } from '../errors.ts';
import type { SubscriptionRequest } from '../progress/event-subscriptions.ts';
import { waitForKey } from '../progress/wait-for-key.ts';
import { identityOf, scopeOf } from '../provisioning/caller.ts';
import { idempotencyKeySchema, parseCommand } from '../provisioning/commands.ts';
import { looksLikeUuid } from '../provisioning/names.ts';
import { builder } from './builder.ts';
import type { Context } from './context.ts';
import { OperationStatus, StepStatus } from './operation.ts';

const ProvisioningProgress = builder.objectRef<ProgressEvent>('ProvisioningProgress').implement({
  description: 'One thing that happened to a step of an operation.',
  fields: (t) => ({
    sequence: t.expose('sequence', {
      type: 'BigInt',
      nullable: false,
      description: 'Rises from event to event, with gaps; for `afterSequence`.',
    }),
    operationId: t.exposeID('operationId', { nullable: false, description: 'The operation.' }),
    tenantId: t.exposeID('tenantId', { nullable: false, description: 'The tenant it works on.' }),
    batchId: t.exposeID('batchId', {
      nullable: true,
      description: 'The batch it belongs to; null when it was asked for alone.',
    }),
    step: t.exposeString('step', { nullable: false, description: 'Such as `create_database`.' }),
    status: t.expose('status', {
      type: StepStatus,
      nullable: false,
      description: 'What happened to the step.',
    }),
    percent: t.exposeInt('percent', {
      nullable: false,
      description: 'How far the operation is, 0 to 100; never falls, and is 100 only on success.',
    }),
    message: t.exposeString('message', { nullable: false, description: 'The same for people.' }),
    at: t.expose('at', { type: 'DateTime', nullable: false, description: 'When it happened.' }),
    operationStatus: t.expose('operationStatus', {
      type: OperationStatus,
      nullable: false,
      description:
        'How far the operation is; SUCCEEDED, COMPENSATED, FAILED and CANCELLED come with its last event.',
    }),
  }),
});

interface Selection {
  readonly operationId?: string | null | undefined;
  readonly tenantId?: string | null | undefined;
  readonly idempotencyKey?: string | null | undefined;
}

builder.subscriptionField('tenantProvisioningProgress', (t) =>
  t.field({
    type: ProvisioningProgress,
    nullable: false,
    authScopes: { permission: 'tenant:read' },
    description:
      'Progress of one operation, named by exactly one of `operationId`, `tenantId` and `idempotencyKey`: what happened so far, then what comes, then the end.',
    args: {
      operationId: t.arg.id({ description: 'Its UUID.' }),
      tenantId: t.arg.id({
        description: 'UUID of a tenant: its operation now open, else its latest.',
      }),
      idempotencyKey: t.arg.string({
        description:
          'Your own key of a `createTenant`; one that was not used yet is waited for, up to 60 s.',
      }),
      afterSequence: t.arg({
        type: 'BigInt',
        description: 'Only events with a larger `sequence`: to go on where a stream broke off.',
      }),
    },
    subscribe: async (_root, { afterSequence, ...selection }, context) => {
      if (afterSequence != null && afterSequence < 0) {
        throw new Refusal('BAD_USER_INPUT', 'afterSequence must not be negative');
      }
      return context.gateway.eventSubscriptions.open({
        operation: await select(selection, context),
        afterSequence: afterSequence ?? 0,
        caller: identityOf(context.caller),
        signal: context.signal,
      });
    },
    resolve: (event) => event,
  }),
);

/** The operation that is meant, or what waits for it. */
async function select(
  selection: Selection,
  { caller, gateway: { control } }: Context,
): Promise<SubscriptionRequest['operation']> {
  const { operationId, tenantId, idempotencyKey } = selection;
  if (Object.values(selection).filter((value) => value != null).length !== 1) {
    const message = 'Give exactly one of operationId, tenantId and idempotencyKey';
    throw new Refusal('BAD_USER_INPUT', message);
  }
  if (idempotencyKey != null) {
    const parsed = parseCommand(idempotencyKeySchema, idempotencyKey, ['idempotencyKey']);
    if ('failures' in parsed) {
      throw new Refusal('BAD_USER_INPUT', parsed.failures[0]?.message ?? 'idempotencyKey is none');
    }
    const key = { caller: identityOf(caller), mutation: 'createTenant', key: parsed.command };
    return (signal) => operationOfKey(control, scopeOf(caller), key, signal);
  }
  const id = operationId ?? tenantId ?? '';
  const find = operationId == null ? findCurrentOperation : findOperation;
  const operation = looksLikeUuid(id) ? await find(control, scopeOf(caller), id) : null;
  if (operation === null) throw notFound();
  return operation.id;
}

const keyWaitMs = 60_000;

async function operationOfKey(
  control: Parameters<typeof waitForKey>[0],
  scope: Parameters<typeof findOperation>[1],
  key: Parameters<typeof waitForKey>[1],
  signal: AbortSignal,
): Promise<string> {
  const id = await waitForKey(control, key, { timeoutMs: keyWaitMs, signal });
  const operation = id === null ? null : await findOperation(control, scope, id);
  if (operation === null) throw notFound();
  return operation.id;
}

function notFound(): Refusal {
  return new Refusal('NOT_FOUND', 'There is no such operation');
}
