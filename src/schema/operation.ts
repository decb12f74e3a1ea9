import { stepStatuses, type OperationStep } from '../control/events.ts';
import {
  findOperation,
  listOperations,
  operationKinds,
  operationStatuses,
  type Operation,
} from '../control/operations.ts';
import { failure } from '../errors.ts';
import { scopeOf } from '../provisioning/caller.ts';
import { looksLikeUuid } from '../provisioning/names.ts';
import { builder } from './builder.ts';
import { described, withoutNulls } from './inputs.ts';
import { byCreation, pageComplexity, pageRequest, toConnection } from './pages.ts';
import { TenantType } from './tenant.ts';
import { UserError } from './user-error.ts';

const OperationKind = builder.enumType('OperationKind', {
  description: 'What an operation does.',
  values: described(operationKinds, {
    CREATE: 'Makes a tenant.',
    DELETE: 'Deletes a tenant softly.',
    RESTORE: 'Takes a deletion back.',
    PURGE: 'Removes a tenant for good.',
    SUSPEND: 'Keeps a tenant, but lets nobody in.',
    RESUME: 'Lets people in again.',
    ROTATE_CREDENTIALS: 'Gives the database a new login.',
    MIGRATE: 'Runs tenant migrations.',
  }),
});

export const OperationStatus = builder.enumType('OperationStatus', {
  description: 'How far an operation is.',
  values: described(operationStatuses, {
    SCHEDULED: 'Will begin later.',
    QUEUED: 'Waits for a free instance.',
    RUNNING: 'Under way.',
    COMPENSATING: 'Failed, and being undone.',
    SUCCEEDED: 'Done.',
    COMPENSATED: 'Failed, and undone: nothing is left.',
    FAILED: 'Failed.',
    CANCELLED: 'Cancelled before it began.',
  }),
});

export const StepStatus = builder.enumType('StepStatus', {
  description: 'How far a step is.',
  values: described(stepStatuses, {
    STARTED: 'Under way.',
    SUCCEEDED: 'Done.',
    RETRYING: 'Failed with something that may pass, and tried again.',
    FAILED: 'Failed.',
    COMPENSATING: 'Being undone.',
    COMPENSATED: 'Undone.',
  }),
});

const OperationStepType = builder.objectRef<OperationStep>('OperationStep').implement({
  description: 'One step of an operation.',
  fields: (t) => ({
    name: t.exposeString('name', { nullable: false, description: 'Such as `create_database`.' }),
    status: t.expose('status', {
      type: StepStatus,
      nullable: false,
      description: 'How far it is.',
    }),
    attempts: t.exposeInt('attempts', { nullable: false, description: 'How often it was tried.' }),
    startedAt: t.expose('startedAt', {
      type: 'DateTime',
      nullable: true,
      description: 'When it began.',
    }),
    finishedAt: t.expose('finishedAt', {
      type: 'DateTime',
      nullable: true,
      description: 'When it ended.',
    }),
    durationMs: t.exposeInt('durationMs', { nullable: true, description: 'Milliseconds it took.' }),
  }),
});

export const OperationType = builder.objectRef<Operation>('Operation').implement({
  description: 'One run of a pipeline on one tenant.',
  fields: (t) => ({
    id: t.exposeID('id', { nullable: false, description: 'UUID.' }),
    kind: t.expose('kind', { type: OperationKind, nullable: false, description: 'What it does.' }),
    status: t.expose('status', {
      type: OperationStatus,
      nullable: false,
      description: 'How far it is.',
    }),
    tenant: t.field({
      type: TenantType,
      nullable: true,
      description: 'The tenant it works on.',
      resolve: (operation, _args, { loaders }) => loaders.tenants.load(operation.tenantId),
    }),
    percent: t.int({
      nullable: false,
      description: '0 to 100; stands still while something is undone, and is 100 only on success.',
      resolve: (operation, _args, { loaders }) =>
        operation.status === 'SUCCEEDED'
          ? 100
          : // One that was taken back had come to the end.
            loaders.percents.load(operation.id).then((percent) => Math.min(percent, 99)),
    }),
    steps: t.field({
      type: [OperationStepType],
      nullable: { list: false, items: false },
      description: 'Its steps so far, in their order.',
      resolve: (operation, _args, { loaders }) => loaders.steps.load(operation.id),
    }),
    error: t.field({
      type: UserError,
      nullable: true,
      description: 'Why it failed.',
      resolve: ({ errorCode, errorMessage }) =>
        errorCode === null ? null : failure(errorCode, errorMessage ?? ''),
    }),
    createdAt: t.expose('createdAt', {
      type: 'DateTime',
      nullable: false,
      description: 'When it was accepted.',
    }),
    startedAt: t.expose('startedAt', {
      type: 'DateTime',
      nullable: true,
      description: 'When it began.',
    }),
    finishedAt: t.expose('finishedAt', {
      type: 'DateTime',
      nullable: true,
      description: 'When it ended.',
    }),
    durationMs: t.int({
      nullable: true,
      description: 'Milliseconds from beginning to end.',
      resolve: ({ startedAt, finishedAt }) =>
        startedAt === null || finishedAt === null
          ? null
          : finishedAt.getTime() - startedAt.getTime(),
    }),
  }),
});

const OperationConnection = builder.connectionObject(
  { type: OperationType, name: 'OperationConnection', description: 'A page of operations.' },
  { description: 'An operation in its place in the list.' },
);

const OperationFilter = builder.inputType('OperationFilter', {
  description: 'Which operations; all conditions hold at once.',
  fields: (t) => ({
    kind: t.field({ type: [OperationKind], description: 'Of one of these kinds.' }),
    status: t.field({ type: [OperationStatus], description: 'In one of these statuses.' }),
    tenantId: t.id({ description: 'On this tenant.' }),
    batchId: t.id({ description: 'Of this batch.' }),
  }),
});

builder.queryField('operation', (t) =>
  t.field({
    type: OperationType,
    nullable: true,
    authScopes: { permission: 'tenant:read' },
    description: 'One operation; null when it is not there, or not yours.',
    args: { id: t.arg.id({ required: true, description: 'Its UUID.' }) },
    resolve: (_root, { id }, { caller, gateway }) =>
      looksLikeUuid(id) ? findOperation(gateway.control, scopeOf(caller), id) : null,
  }),
);

builder.queryField('operations', (t) =>
  t.connection(
    {
      type: OperationType,
      nullable: true,
      authScopes: { permission: 'tenant:read' },
      complexity: pageComplexity,
      description: 'Operations, newest first.',
      args: { filter: t.arg({ type: OperationFilter, description: 'Which ones.' }) },
      resolve: async (_root, args, { caller, gateway }) => {
        const request = pageRequest(args, byCreation);
        const { batchId, tenantId, ...rest } = withoutNulls(args.filter ?? {});
        const filter = {
          ...rest,
          ...(tenantId === undefined ? {} : { tenantId: orNobody(tenantId) }),
          ...(batchId === undefined ? {} : { batchId: orNobody(batchId) }),
        };
        const page = await listOperations(gateway.control, scopeOf(caller), filter, request);
        return toConnection(page, request, byCreation);
      },
    },
    OperationConnection,
  ),
);

/** An id that is no UUID is that of nothing. */
function orNobody(id: string): string {
  return looksLikeUuid(id) ? id : '00000000-0000-0000-0000-000000000000';
}

builder.objectField(TenantType, 'operations', (t) =>
  t.connection(
    {
      type: OperationType,
      nullable: false,
      complexity: pageComplexity,
      description: 'What was done to it, newest first.',
      resolve: async (tenant, args, { caller, gateway }) => {
        const request = pageRequest(args, byCreation);
        const filter = { tenantId: tenant.id };
        const page = await listOperations(gateway.control, scopeOf(caller), filter, request);
        return toConnection(page, request, byCreation);
      },
    },
    OperationConnection,
  ),
);
