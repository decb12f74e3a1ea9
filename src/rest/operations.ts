import { codeForm } from './errors.ts';
import type { Reply } from './reply.ts';
import { route, type Dialect, type OperationResult } from './route.ts';

/** What every document that shows an operation selects. */
export const operationFields = /* GraphQL */ `
  id kind status percent
  steps { name status attempts startedAt finishedAt durationMs }
  tenant { id }
  error { code message }
  createdAt startedAt finishedAt durationMs
`;

/** An operation as REST shows it. */
export function operationBody(operation: OperationResult): object {
  return {
    id: operation.id,
    kind: operation.kind.toLowerCase(),
    status: operation.status.toLowerCase(),
    percent: operation.percent,
    steps: operation.steps.map((step) => ({
      name: step.name,
      status: step.status.toLowerCase(),
      attempts: step.attempts,
      started_at: step.startedAt,
      finished_at: step.finishedAt,
      duration_ms: step.durationMs,
    })),
    tenant_id: operation.tenant?.id ?? null,
    error: operation.error,
    created_at: operation.createdAt,
    started_at: operation.startedAt,
    finished_at: operation.finishedAt,
    duration_ms: operation.durationMs,
  };
}

/** 202: accepted, and the operation to follow. `Location` is added where the route is run. */
export function acceptedReply(operation: OperationResult | null | undefined): Reply {
  if (operation == null) throw new Error('an accepted mutation has no operation');
  return { status: 202, body: operationBody(operation) };
}

/** Operations are the same under every contract. */
export const operationsDialect: Dialect = {
  name: 'operations',
  prefix: '/api/operations',
  errors: codeForm,
  apiKeyOnCreate: false,
  routes: [
    route<null, { operation: OperationResult | null }>({
      method: 'GET',
      path: '/api/operations/:id',
      document: /* GraphQL */ `query Operation($id: ID!) { operation(id: $id) { ${operationFields} } }`,
      variables: ({ params }) => ({ id: params['id'] }),
      respond: ({ operation }) =>
        operation === null ? null : { status: 200, body: operationBody(operation) },
    }),
  ],
};
