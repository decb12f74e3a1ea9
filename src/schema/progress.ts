import { findCurrentOperation, findOperation } from '../control/operations.ts';
import { findBatch } from '../control/batches.ts';
import type {
  BatchProgress as Progress,
  EventSelector,
  ProgressEvent,
} from '../control/read-events.ts';
import { Refusal } from '../errors.ts';
import type { Scope } from '../control/tenants.ts';
import { batchProgressOf } from '../progress/batch-progress.ts';
import type { SubscriptionRequest } from '../progress/event-subscriptions.ts';
import { waitForKey } from '../progress/wait-for-key.ts';
import { identityOf, scopeOf } from '../provisioning/caller.ts';
import { idempotencyKeySchema, parseCommand } from '../provisioning/commands.ts';
import { looksLikeUuid } from '../provisioning/names.ts';
import { builder } from './builder.ts';
import type { Context } from './context.ts';
import { OperationStatus, StepStatus } from './operation.ts';

const BatchProgress = builder.objectRef<Progress>('BatchProgress').implement({
  description: 'How far a batch is.',
  fields: (t) => ({
    total: t.exposeInt('total', { nullable: false, description: 'Tenants asked for.' }),
    succeeded: t.exposeInt('succeeded', { nullable: false, description: 'Tenants made.' }),
    failed: t.exposeInt('failed', {
      nullable: false,
      description: 'Tenants refused, failed, cancelled or rolled back.',
    }),
    percent: t.exposeInt('percent', {
      nullable: false,
      description: 'Of all tenants together; never falls, and is 100 only when all were made.',
    }),
  }),
});

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
    batch: t.field({
      type: BatchProgress,
      nullable: true,
      description: 'How far its batch was by then; null when it was asked for alone.',
      resolve: (event, _args, { gateway }) => batchProgressOf(gateway.control, event),
    }),
  }),
});

interface Selection {
  readonly operationId?: string | null | undefined;
  readonly batchId?: string | null | undefined;
  readonly tenantId?: string | null | undefined;
  readonly idempotencyKey?: string | null | undefined;
}

builder.subscriptionField('tenantProvisioningProgress', (t) =>
  t.field({
    type: ProvisioningProgress,
    nullable: false,
    authScopes: { permission: 'tenant:read' },
    description:
      'Progress of one operation or batch, named by exactly one of `operationId`, `batchId`, `tenantId` and `idempotencyKey`: what happened so far, then what comes, then the end.',
    args: {
      operationId: t.arg.id({ description: 'UUID of an operation.' }),
      batchId: t.arg.id({ description: 'UUID of a batch: the events of all its operations.' }),
      tenantId: t.arg.id({
        description: 'UUID of a tenant: its operation now open, else its latest.',
      }),
      idempotencyKey: t.arg.string({
        description:
          'Your own key of a `createTenant` or `createTenantsBatch`; one that was not used yet is waited for, up to 60 s.',
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
        of: await select(selection, context),
        afterSequence: afterSequence ?? 0,
        caller: identityOf(context.caller),
        signal: context.signal,
      });
    },
    resolve: (event) => event,
  }),
);

/** What is meant, or what waits for it. */
async function select(
  selection: Selection,
  { caller, gateway: { control } }: Context,
): Promise<SubscriptionRequest['of']> {
  const { operationId, batchId, tenantId, idempotencyKey } = selection;
  if (Object.values(selection).filter((value) => value != null).length !== 1) {
    const message = 'Give exactly one of operationId, batchId, tenantId and idempotencyKey';
    throw new Refusal('BAD_USER_INPUT', message);
  }
  if (idempotencyKey != null) {
    const parsed = parseCommand(idempotencyKeySchema, idempotencyKey, ['idempotencyKey']);
    if ('failures' in parsed) {
      throw new Refusal('BAD_USER_INPUT', parsed.failures[0]?.message ?? 'idempotencyKey is none');
    }
    const keys = ['createTenant', 'createTenantsBatch'].map((mutation) => ({
      caller: identityOf(caller),
      mutation,
      key: parsed.command,
    }));
    return (signal) => subjectOfKey(control, scopeOf(caller), keys, signal);
  }
  if (batchId != null) return oneBatch(control, scopeOf(caller), batchId);
  const id = operationId ?? tenantId ?? '';
  const find = operationId == null ? findCurrentOperation : findOperation;
  const operation = looksLikeUuid(id) ? await find(control, scopeOf(caller), id) : null;
  if (operation === null) throw notFound('operation');
  return { operationId: operation.id };
}

const keyWaitMs = 60_000;

async function subjectOfKey(
  control: Parameters<typeof waitForKey>[0],
  scope: Scope,
  keys: Parameters<typeof waitForKey>[1],
  signal: AbortSignal,
): Promise<EventSelector> {
  const record = await waitForKey(control, keys, { timeoutMs: keyWaitMs, signal });
  if (record?.batchId != null) return oneBatch(control, scope, record.batchId);
  const id = record?.operationId ?? null;
  const operation = id === null ? null : await findOperation(control, scope, id);
  if (operation === null) throw notFound('operation');
  return { operationId: operation.id };
}

async function oneBatch(
  control: Parameters<typeof waitForKey>[0],
  scope: Scope,
  id: string,
): Promise<EventSelector> {
  const batch = looksLikeUuid(id) ? await findBatch(control, scope, id) : null;
  if (batch === null) throw notFound('batch');
  return { batchId: batch.id };
}

function notFound(what: string): Refusal {
  return new Refusal('NOT_FOUND', `There is no such ${what}`);
}
