import { z } from 'zod';
import { codeBody } from './error-bodies.ts';
import { codeForm } from './errors.ts';
import { operationEventsRoute } from './operation-events.ts';
import { operationExample, operationSchema } from './operation-docs.ts';
import { wholeNumber } from './paging.ts';
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
function operationBody(operation: OperationResult): object {
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

const listing = z.object({
  limit: wholeNumber('limit', 50, 100).meta({ description: 'How many at most.' }),
  after: z.string().optional().meta({ description: '`next` of the list before this one.' }),
});

interface Listed {
  readonly operations: {
    readonly nodes: readonly OperationResult[];
    readonly pageInfo: { readonly hasNextPage: boolean; readonly endCursor: string | null };
  };
}

const listRoute = route<null, Listed, z.output<typeof listing>>({
  method: 'GET',
  path: '/api/operations',
  query: listing,
  document: /* GraphQL */ `
    query Operations($limit: Int!, $after: String) {
      operations(first: $limit, after: $after) {
        nodes { ${operationFields} }
        pageInfo { hasNextPage endCursor }
      }
    }
  `,
  variables: ({ query: { limit, after } }) => ({ limit, after }),
  respond: ({ operations: { nodes, pageInfo } }) => ({
    status: 200,
    body: {
      operations: nodes.map(operationBody),
      next: pageInfo.hasNextPage ? pageInfo.endCursor : null,
    },
  }),
  docs: {
    operationId: 'listOperations',
    summary: 'Operations, newest first',
    description: 'What comes in while you read moves nothing: `next` leads to what is older.',
    replies: {
      200: {
        description: 'The operations.',
        schema: z
          .object({
            operations: z.array(operationSchema),
            next: z.string().nullable().meta({ description: 'For `after`; null: these are all.' }),
          })
          .meta({ id: 'OperationList', description: 'Operations, newest first.' }),
        example: { operations: [operationExample], next: null },
      },
    },
    problems: { BAD_USER_INPUT: 'after is not a cursor of this list' },
  },
});

/** Operations are the same under every contract. */
export const operationsDialect: Dialect = {
  name: 'operations',
  prefix: '/api/operations',
  errors: codeForm,
  apiKeyOnCreate: false,
  docs: {
    tag: 'Operations',
    description:
      'What is being done to a tenant, step by step; the same under every contract. A change that was not waited for is followed here.',
    errorBody: codeBody,
  },
  routes: [
    listRoute,
    operationEventsRoute,
    route<null, { operation: OperationResult | null }>({
      method: 'GET',
      path: '/api/operations/:id',
      document: /* GraphQL */ `query Operation($id: ID!) { operation(id: $id) { ${operationFields} } }`,
      variables: ({ params }) => ({ id: params['id'] }),
      respond: ({ operation }) =>
        operation === null ? null : { status: 200, body: operationBody(operation) },
      docs: {
        operationId: 'getOperation',
        summary: 'One operation, with its steps',
        description:
          'Poll it until `finished_at` is set, once a second or so: most operations are over by then.',
        params: {
          id: { description: 'Its UUID.', example: operationExample.id },
        },
        replies: {
          200: {
            description: 'The operation as it is now.',
            schema: operationSchema,
            example: operationExample,
          },
        },
        problems: { NOT_FOUND: 'Not found' },
      },
    }),
  ],
};
