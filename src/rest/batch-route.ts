import { z } from 'zod';
import type { Failure } from '../errors.ts';
import {
  acceptedBatchDocs,
  acceptedBatchReply,
  batchFields,
  type BatchResource,
} from './batches.ts';
import type { RequestExample } from './docs.ts';
import type { Reply } from './reply.ts';
import { route, type MutationPayload, type Route } from './route.ts';

const body = z
  .object({
    tenants: z
      .array(z.record(z.string(), z.unknown()))
      .meta({ description: 'Each as one alone; what is wrong with one is told of it alone.' }),
    atomic: z.boolean().optional().meta({ description: 'All or nothing. Default false.' }),
  })
  .meta({ id: 'NewBatch', description: 'Tenants to make together.' });

/** One tenant of a batch's answer, as far as all contracts go. */
type Result<Tenant> = Omit<BatchResource['results'][number], 'tenant' | 'userErrors'> & {
  readonly apiKey: string | null;
  readonly tenant: (Tenant & { readonly id: string }) | null;
  readonly userErrors: readonly Failure[];
};

interface Created<Tenant> {
  readonly createTenantsBatch: MutationPayload & {
    readonly batch:
      (Omit<BatchResource, 'results'> & { readonly results: readonly Result<Tenant>[] }) | null;
  };
}

/** What differs between the contracts that make batches. */
export interface BatchContract<Item, Tenant> {
  readonly path: string;
  readonly operationId: string;
  /** Rules of one tenant. */
  readonly item: z.ZodType<Item>;
  /** The field that names it, which every result repeats. */
  readonly nameField: string;
  /** What is wrong with a tenant that breaks these rules, or the API's. */
  readonly problemOf: (issue: Failure | z.core.$ZodIssue, item: unknown) => string;
  readonly input: (item: Item) => object;
  /** Selection of a tenant, and what the answer shows of it. */
  readonly fields: string;
  readonly shown: (tenant: Tenant, apiKey: string | null) => object;
  readonly shownSchema: z.ZodRawShape;
  readonly requests: Readonly<Record<string, RequestExample>>;
  readonly example?: object;
}

/** The route of a contract that makes several tenants at once. */
export function batchRoute<Item, Tenant>(contract: BatchContract<Item, Tenant>): Route {
  const { fields, input, item, nameField, operationId, path } = contract;
  type Body = z.output<typeof body>;

  const nameOf = (tenant: Readonly<Record<string, unknown>> | undefined): string | null => {
    const name = tenant?.[nameField];
    return typeof name === 'string' ? name : null;
  };

  /** What breaks the contract's own rules; the API's are told by the results. */
  function ownProblem(tenant: unknown): string | null {
    const parsed = item.safeParse(tenant, { reportInput: true });
    const [issue] = parsed.error?.issues ?? [];
    return issue === undefined ? null : contract.problemOf(issue, tenant);
  }

  function failedResult(
    tenant: Readonly<Record<string, unknown>> | undefined,
    failures: readonly Failure[],
    rolledBack: boolean,
  ): object {
    const [failure] = failures;
    const message = failure === undefined ? null : contract.problemOf(failure, tenant);
    const error = ownProblem(tenant) ?? message ?? 'Another tenant of the batch could not be made';
    return { [nameField]: nameOf(tenant), status: rolledBack ? 'rolled_back' : 'error', error };
  }

  function reply(
    status: number,
    results: readonly object[],
    successful: number,
    processingTimeMs: number,
  ): Reply {
    return {
      status,
      body: {
        success: successful === results.length,
        message:
          successful === results.length || status === 207
            ? 'Batch tenant provisioning completed'
            : 'Batch tenant provisioning failed; nothing was made',
        results,
        summary: {
          total_requested: results.length,
          successful,
          failed: results.length - successful,
          processing_time_ms: processingTimeMs,
        },
      },
    };
  }

  const answer = answerSchema(contract);
  return route<Body, Created<Tenant>>({
    method: 'POST',
    path,
    body,
    document: /* GraphQL */ `
      mutation CreateTenantsBatch($input: CreateTenantsBatchInput!) {
        createTenantsBatch(input: $input) {
          batch { ${batchFields} results { apiKey tenant { ${fields} } userErrors { code message field } } }
          userErrors { code message field }
        }
      }
    `,
    variables: ({ body: { atomic, tenants }, wait }) => ({
      input: {
        atomic,
        wait,
        tenants: tenants.map((tenant) => {
          const parsed = item.safeParse(tenant);
          // Without a name it is refused, and keeps its place.
          return parsed.success ? input(parsed.data) : { name: '' };
        }),
      },
    }),
    respond: ({ createTenantsBatch: { batch } }, { body: { tenants }, wait }) => {
      if (batch === null) return null;
      if (!wait) return acceptedBatchReply(batch);
      const results = batch.results.map((result, index) =>
        result.success && result.tenant !== null
          ? {
              [nameField]: nameOf(tenants[index]),
              status: 'success',
              ...contract.shown(result.tenant, result.apiKey),
            }
          : failedResult(tenants[index], result.userErrors, result.rolledBack),
      );
      const { processingTimeMs, successful } = batch.summary;
      const failed = batch.status === 'ROLLED_BACK' ? 500 : 207;
      const status = batch.status === 'SUCCEEDED' ? 201 : failed;
      return reply(status, results, successful, processingTimeMs);
    },
    refuse: (failures, { body: { tenants } }) => {
      const byItem = Map.groupBy(failures, ({ field }) =>
        field?.[1] === 'tenants' && field[2] !== undefined ? Number(field[2]) : -1,
      );
      if (byItem.has(-1)) return null; // the batch as a whole
      const codes = new Set(failures.map(({ code }) => code));
      const status =
        codes.has('TAKEN') && codes.size === 1 ? 409 : codes.has('UNAVAILABLE') ? 503 : 400;
      const results = tenants.map((tenant, index) =>
        failedResult(tenant, byItem.get(index) ?? [], !byItem.has(index)),
      );
      return reply(status, results, 0, 0);
    },
    docs: {
      operationId,
      summary: 'Make several tenants at once',
      description:
        'Each is made by itself, and the results keep the order of the request. With `atomic`, one that is invalid (`400`) or taken (`409`) refuses all, and one that fails on the way (`500`) has all others undone: `success` is false, each result is `error` or `rolled_back`.',
      requests: contract.requests,
      replies: {
        201: {
          description: 'All were made.',
          schema: answer,
          ...(contract.example === undefined ? {} : { example: contract.example }),
        },
        202: acceptedBatchDocs,
        207: { description: 'Some or all failed; each result says why.', schema: answer },
        409: {
          description: 'Atomic, and something that must be unique is in use.',
          schema: answer,
        },
        503: { description: 'Atomic, and no cluster can take one of them now.', schema: answer },
      },
      problems: {
        RATE_LIMITED: 'More than 10 batch tenants a minute',
        TIMED_OUT: 'The batch has not ended in time; follow it by its id',
      },
      without: ['PROVISIONING_FAILED'],
      otherBodies: { 400: answer, 500: answer },
    },
  });
}

function answerSchema<Item, Tenant>(contract: BatchContract<Item, Tenant>): z.ZodType {
  const { nameField, operationId, shownSchema } = contract;
  const name = { [nameField]: z.string().nullable() };
  return z
    .object({
      success: z.boolean().meta({ description: 'Whether none failed.' }),
      message: z.string(),
      results: z.array(
        z.union([
          z.object({ ...name, status: z.literal('success'), ...shownSchema }),
          z.object({ ...name, status: z.enum(['error', 'rolled_back']), error: z.string() }),
        ]),
      ),
      summary: z.object({
        total_requested: z.int(),
        successful: z.int(),
        failed: z.int(),
        processing_time_ms: z.int(),
      }),
    })
    .meta({
      id: `${operationId.replace(/^create/, '')}Answer`,
      description: 'What came of a batch.',
    });
}
