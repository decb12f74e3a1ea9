import { expect } from 'vitest';
import type { TestGateway } from '../harness.ts';
import type { UserError } from './tenants.ts';

/** What `Mutation.createTenantsBatch` and `Query.batch` tell, as far as these tests look at it. */
export interface BatchAnswer {
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
    readonly tenant: {
      readonly id: string;
      readonly number: number;
      readonly slug: string;
      readonly name: string;
      readonly status: string;
    } | null;
    readonly operation: { readonly id: string; readonly status: string } | null;
    readonly apiKey: string | null;
    readonly userErrors: readonly UserError[];
  }[];
  readonly createdAt: string;
  readonly finishedAt: string | null;
}

const fields = `id status atomic
  summary { totalRequested successful failed processingTimeMs }
  results {
    index success rolledBack tenant { id number slug name status } operation { id status } apiKey
    userErrors { code message field }
  }
  createdAt finishedAt`;

const document = `mutation ($input: CreateTenantsBatchInput!) {
  createTenantsBatch(input: $input) { batch { ${fields} } userErrors { code message field } }
}`;

export interface BatchPayload {
  readonly batch: BatchAnswer | null;
  readonly userErrors: readonly UserError[];
}

/** `Mutation.createTenantsBatch`, whatever comes of it. */
export async function createBatch(gateway: TestGateway, input: object): Promise<BatchPayload> {
  const { createTenantsBatch } = await gateway.graphql<{ createTenantsBatch: BatchPayload }>(
    document,
    { input },
  );
  return createTenantsBatch;
}

/** `Query.batch`. */
export async function findBatch(gateway: TestGateway, id: string): Promise<BatchAnswer | null> {
  const { batch } = await gateway.graphql<{ batch: BatchAnswer | null }>(
    `query ($id: ID!) { batch(id: $id) { ${fields} } }`,
    { id },
  );
  return batch;
}

/** `Query.batch`, once it has ended. */
export async function endedBatch(gateway: TestGateway, id: string): Promise<BatchAnswer> {
  await expect
    .poll(async () => (await findBatch(gateway, id))?.finishedAt, {
      timeout: 90_000,
      interval: 200,
    })
    .toEqual(expect.any(String));
  return (await findBatch(gateway, id))!;
}

/** Inputs of tenants that are schemas, which are made fast. */
export function schemas(
  prefix: string,
  count: number,
): { name: string; slug: string; isolation: string }[] {
  return Array.from({ length: count }, (_, index) => ({
    name: `${prefix} ${index}`,
    slug: `${prefix}-${index}`,
    isolation: 'SCHEMA',
  }));
}
