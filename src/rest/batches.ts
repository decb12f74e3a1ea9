import { z } from 'zod';
import { batchStatuses } from '../control/batches.ts';
import { failureCodes } from '../errors.ts';
import { lowerCase, time, timeOrNull, uuid, uuidOrNull } from './body-schemas.ts';
import { codeBody } from './error-bodies.ts';
import { codeForm } from './errors.ts';
import {
  progressEvent,
  progressFields,
  streamReplies,
  streamRules,
  type ProgressResult,
} from './operation-events.ts';
import type { ReplyDocs } from './docs.ts';
import type { Reply } from './reply.ts';
import { route, streamRoute, type Dialect } from './route.ts';

/** The selection `batchFields`. */
export interface BatchResource {
  readonly id: string;
  readonly status: string;
  readonly atomic: boolean;
  readonly summary: {
    readonly totalRequested: number;
    readonly successful: number;
    readonly failed: number;
    readonly processingTimeMs: number;
  };
  readonly results: readonly {
    readonly index: number;
    readonly success: boolean;
    readonly rolledBack: boolean;
    readonly tenant: { readonly id: string } | null;
    readonly operation: { readonly id: string; readonly status: string } | null;
    readonly userErrors: readonly { readonly code: string; readonly message: string }[];
  }[];
  readonly createdAt: string;
  readonly finishedAt: string | null;
}

/** What every document that shows a batch selects. */
export const batchFields = /* GraphQL */ `
  id status atomic
  summary { totalRequested successful failed processingTimeMs }
  results {
    index success rolledBack tenant { id } operation { id status } userErrors { code message }
  }
  createdAt finishedAt
`;

/** A batch as REST shows it. */
function batchBody({ results, summary, ...batch }: BatchResource): object {
  return {
    id: batch.id,
    status: batch.status.toLowerCase(),
    atomic: batch.atomic,
    summary: {
      total_requested: summary.totalRequested,
      successful: summary.successful,
      failed: summary.failed,
      processing_time_ms: summary.processingTimeMs,
    },
    results: results.map((result) => ({
      index: result.index,
      success: result.success,
      rolled_back: result.rolledBack,
      tenant_id: result.tenant?.id ?? null,
      operation_id: result.operation?.id ?? null,
      operation_status: result.operation?.status.toLowerCase() ?? null,
      error: errorOf(result),
    })),
    created_at: batch.createdAt,
    finished_at: batch.finishedAt,
  };
}

function errorOf({ userErrors: [first] }: BatchResource['results'][number]): object | null {
  return first === undefined ? null : { code: first.code, message: first.message };
}

/** 202: accepted, and the batch to follow. `Location` is added where the route is run. */
export function acceptedBatchReply(batch: BatchResource): Reply {
  return { status: 202, body: batchBody(batch) };
}

const batchSchema = z
  .object({
    id: uuid('The batch.'),
    status: z.enum(lowerCase(batchStatuses)).meta({ description: 'How far it is.' }),
    atomic: z.boolean().meta({ description: 'All or nothing.' }),
    summary: z.object({
      total_requested: z.int().meta({ description: 'Tenants asked for.' }),
      successful: z.int().meta({ description: 'Tenants made so far.' }),
      failed: z.int().meta({ description: 'Tenants refused, failed or undone so far.' }),
      processing_time_ms: z.int().meta({ description: 'Until its end, or until now.' }),
    }),
    results: z
      .array(
        z.object({
          index: z.int().meta({ description: 'Place in the request, from 0.' }),
          success: z.boolean(),
          rolled_back: z.boolean().meta({ description: 'Undone because another one failed.' }),
          tenant_id: uuidOrNull('The tenant, made or in the making.'),
          operation_id: uuidOrNull('The operation that makes it; none where it was refused.'),
          operation_status: z.string().nullable(),
          error: z
            .object({ code: z.enum(failureCodes), message: z.string() })
            .nullable()
            .meta({ description: 'Why it was refused or failed.' }),
        }),
      )
      .meta({ description: 'In the order of the request.' }),
    created_at: time('When it was accepted.'),
    finished_at: timeOrNull('When all of it had ended.'),
  })
  .meta({ id: 'Batch', description: 'Tenants that were asked for together.' });

/** 202 of a route that makes a batch. */
export const acceptedBatchDocs: ReplyDocs = {
  description: 'Accepted, on `Prefer: respond-async`: the batch to follow.',
  schema: batchSchema,
  headers: ['Location'],
  links: { getBatch: { id: 'id' }, followBatch: { id: 'id' } },
};

const id = { description: 'Its UUID.', example: '3c1f4a52-8a0e-4d7c-9b1d-2f5a7c9e0b13' };

const eventsRoute = streamRoute<ProgressResult>({
  method: 'GET',
  path: '/api/batches/:id/events',
  document: /* GraphQL */ `
    subscription BatchEvents($batchId: ID!, $after: BigInt) {
      tenantProvisioningProgress(batchId: $batchId, afterSequence: $after) { ${progressFields} }
    }
  `,
  variables: ({ params, after }) => ({ batchId: params['id'], after }),
  event: progressEvent,
  docs: {
    operationId: 'followBatch',
    summary: 'Progress of a batch, live',
    description: `Server-sent events of all its operations: what happened so far, then what comes. The stream
ends once the batch has; \`batch\` counts how far it was by each event.
${streamRules}`,
    params: { id },
    requestHeaders: ['Last-Event-ID'],
    replies: streamReplies(),
    problems: {
      NOT_FOUND: 'There is no such batch',
      BAD_USER_INPUT: 'Last-Event-ID must be the id of an event: a whole number',
    },
  },
});

const getRoute = route<null, { readonly batch: BatchResource | null }>({
  method: 'GET',
  path: '/api/batches/:id',
  document: /* GraphQL */ `query Batch($id: ID!) { batch(id: $id) { ${batchFields} } }`,
  variables: ({ params }) => ({ id: params['id'] }),
  respond: ({ batch }) => (batch === null ? null : { status: 200, body: batchBody(batch) }),
  docs: {
    operationId: 'getBatch',
    summary: 'One batch, with what came of each tenant',
    description: 'Poll it until `finished_at` is set. API keys are in the creating answer alone.',
    params: { id },
    replies: { 200: { description: 'The batch as it is now.', schema: batchSchema } },
    problems: { NOT_FOUND: 'Not found' },
  },
});

/** Batches are the same under every contract. */
export const batchesDialect: Dialect = {
  name: 'batches',
  prefix: '/api/batches',
  errors: codeForm,
  apiKeyOnCreate: false,
  docs: {
    tag: 'Batches',
    description: 'Tenants that were asked for together; the same under every contract.',
    errorBody: codeBody,
  },
  routes: [eventsRoute, getRoute],
};
