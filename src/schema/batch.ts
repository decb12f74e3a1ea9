import {
  batchStatuses,
  findBatch,
  listBatches,
  type Batch,
  type BatchItem,
} from '../control/batches.ts';
import { endingFailure } from '../provisioning/outcomes.ts';
import { inItem } from '../provisioning/batch-choice.ts';
import { scopeOf } from '../provisioning/caller.ts';
import { looksLikeUuid } from '../provisioning/names.ts';
import { builder } from './builder.ts';
import { described } from './inputs.ts';
import { OperationType } from './operation.ts';
import { byCreation, pageComplexity, pageRequest, toConnection } from './pages.ts';
import { TenantType } from './tenant.ts';
import { UserError } from './user-error.ts';

const BatchStatus = builder.enumType('BatchStatus', {
  description: 'How far a batch is.',
  values: described(batchStatuses, {
    RUNNING: 'Under way, or still to begin.',
    SUCCEEDED: 'All tenants were made.',
    PARTIALLY_FAILED: 'Some were made, some were not.',
    FAILED: 'None was made.',
    ROLLED_BACK: 'Atomic, and one failed: none is left.',
    CANCELLED: 'None had begun: not in time, or cancelled before.',
  }),
});

const BatchSummary = builder.objectRef<Batch>('BatchSummary').implement({
  description: 'A batch in numbers.',
  fields: (t) => ({
    totalRequested: t.exposeInt('total', { nullable: false, description: 'Tenants asked for.' }),
    successful: t.int({
      nullable: false,
      description: 'Tenants made so far.',
      resolve: async (batch, _args, { loaders }) =>
        (await loaders.batchItems.load(batch.id)).filter(isMade).length,
    }),
    failed: t.int({
      nullable: false,
      description: 'Tenants refused, failed, cancelled or rolled back so far.',
      resolve: async (batch, _args, { loaders }) =>
        (await loaders.batchItems.load(batch.id)).filter(hasFailed).length,
    }),
    processingTimeMs: t.int({
      nullable: false,
      description: 'Milliseconds from its acceptance, or its time, to its end, or until now.',
      resolve: ({ createdAt, finishedAt, provisionAt }) =>
        Math.max(0, (finishedAt ?? new Date()).getTime() - (provisionAt ?? createdAt).getTime()),
    }),
  }),
});

/** One item, with the key that the creating answer shows. */
interface Result extends BatchItem {
  readonly apiKey: string | null;
}

const BatchResult = builder.objectRef<Result>('BatchResult').implement({
  description: 'What came of one tenant of a batch.',
  fields: (t) => ({
    index: t.exposeInt('index', { nullable: false, description: 'Place in the request, from 0.' }),
    success: t.boolean({
      nullable: false,
      description: 'Whether the tenant was made.',
      resolve: isMade,
    }),
    tenant: t.field({
      type: TenantType,
      nullable: true,
      description: 'The tenant, made or in the making; null when it failed.',
      resolve: (item, _args, { loaders }) =>
        item.operation === null || hasFailed(item)
          ? null
          : loaders.tenants.load(item.operation.tenantId),
    }),
    operation: t.field({
      type: OperationType,
      nullable: true,
      description: 'The operation that makes it; null when the item was refused.',
      resolve: (item) => item.operation,
    }),
    apiKey: t.exposeString('apiKey', {
      nullable: true,
      description: 'The tenant’s API key; shown by the creating answer alone.',
    }),
    rolledBack: t.boolean({
      nullable: false,
      description: 'Whether it was undone or cancelled because another tenant of the batch failed.',
      resolve: ({ operation }) => operation?.rolledBack ?? false,
    }),
    userErrors: t.field({
      type: [UserError],
      nullable: { list: false, items: false },
      description: 'Why it was refused or failed; empty on success and before the end.',
      resolve: ({ failures, index, operation }) => {
        if (operation?.finishedAt == null) return failures;
        const failure = endingFailure(operation);
        return failure === null ? [] : [inItem(failure, index)];
      },
    }),
  }),
});

/** A batch, and the keys to show with it. */
export interface ShownBatch extends Batch {
  /** By tenant; absent: none are shown. */
  readonly apiKeys?: ReadonlyMap<string, string>;
}

export const TenantBatch = builder.objectRef<ShownBatch>('TenantBatch').implement({
  description: 'Tenants that were asked for together.',
  fields: (t) => ({
    id: t.exposeID('id', { nullable: false, description: 'UUID.' }),
    status: t.expose('status', {
      type: BatchStatus,
      nullable: false,
      description: 'How far it is.',
    }),
    atomic: t.exposeBoolean('atomic', { nullable: false, description: 'All or nothing.' }),
    summary: t.field({
      type: BatchSummary,
      nullable: false,
      description: 'The batch in numbers.',
      resolve: (batch) => batch,
    }),
    results: t.field({
      type: [BatchResult],
      nullable: { list: false, items: false },
      complexity: { field: 1, multiplier: 50 },
      description: 'What came of each tenant, in the order of the request.',
      resolve: async ({ apiKeys, id }, _args, { loaders }) =>
        (await loaders.batchItems.load(id)).map((item) => ({
          ...item,
          apiKey: isMade(item) ? (apiKeys?.get(item.operation?.tenantId ?? '') ?? null) : null,
        })),
    }),
    createdAt: t.expose('createdAt', {
      type: 'DateTime',
      nullable: false,
      description: 'When it was accepted.',
    }),
    finishedAt: t.expose('finishedAt', {
      type: 'DateTime',
      nullable: true,
      description: 'When all of it had ended.',
    }),
  }),
});

function isMade({ operation }: BatchItem): boolean {
  return operation?.status === 'SUCCEEDED';
}

function hasFailed({ operation }: BatchItem): boolean {
  return operation === null || (operation.finishedAt !== null && operation.status !== 'SUCCEEDED');
}

const BatchConnection = builder.connectionObject(
  { type: TenantBatch, name: 'BatchConnection', description: 'A page of batches.' },
  { name: 'BatchEdge', description: 'A batch in its place in the list.' },
);

builder.queryField('batch', (t) =>
  t.field({
    type: TenantBatch,
    nullable: true,
    authScopes: { permission: 'tenant:read' },
    description: 'One batch; null when it is not there, or not yours.',
    args: { id: t.arg.id({ required: true, description: 'Its UUID.' }) },
    resolve: (_root, { id }, { caller, gateway }) =>
      looksLikeUuid(id) ? findBatch(gateway.control, scopeOf(caller), id) : null,
  }),
);

builder.queryField('batches', (t) =>
  t.connection(
    {
      type: TenantBatch,
      nullable: true,
      authScopes: { permission: 'tenant:read' },
      complexity: pageComplexity,
      description: 'Batches, newest first.',
      resolve: async (_root, args, { caller, gateway }) => {
        const request = pageRequest(args, byCreation);
        const page = await listBatches(gateway.control, scopeOf(caller), request);
        return toConnection(page, request, byCreation);
      },
    },
    BatchConnection,
  ),
);

builder.objectField(OperationType, 'batch', (t) =>
  t.field({
    type: TenantBatch,
    nullable: true,
    description: 'The batch it belongs to; null when it was asked for alone.',
    resolve: ({ batchId }, _args, { loaders }) =>
      batchId === null ? null : loaders.batches.load(batchId),
  }),
);
