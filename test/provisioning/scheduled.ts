import { expect } from 'vitest';
import type { TestGateway, World } from '../harness.ts';
import type { UserError } from './tenants.ts';

/** A moment so far away that nothing begins by itself in a test. */
export const someDay = (): string => new Date(Date.now() + 30 * 86_400_000).toISOString();

/** What the mutations of scheduled creations answer. */
export interface ScheduledPayload {
  readonly tenant: {
    readonly id: string;
    readonly status: string;
    readonly provisionAt: string | null;
  };
  readonly operation: {
    readonly id: string;
    readonly status: string;
    readonly percent: number;
    readonly startedAt: string | null;
    readonly finishedAt: string | null;
    readonly steps: readonly object[];
  };
  readonly apiKey: string | null;
  readonly userErrors: readonly UserError[];
}

/** `Mutation.createTenant` with a time. */
export async function schedule(gateway: TestGateway, input: object): Promise<ScheduledPayload> {
  const { createTenant } = await gateway.graphql<{ createTenant: ScheduledPayload }>(
    `mutation ($input: CreateTenantInput!) { createTenant(input: $input) {
      tenant { id status provisionAt }
      operation { id status percent startedAt finishedAt steps { name } }
      apiKey userErrors { code message field } } }`,
    { input },
  );
  return createTenant;
}

/** Makes it that moment for tenants, as if the time had passed. */
export async function letItBeTime(world: World, ...tenantIds: readonly string[]): Promise<void> {
  await world.query('UPDATE control_plane.tenants SET provision_at = now() WHERE id = ANY ($1)', [
    tenantIds,
  ]);
  await world.query(
    `UPDATE control_plane.batches SET provision_at = now() WHERE provision_at IS NOT NULL
     AND id IN (SELECT batch_id FROM control_plane.operations WHERE tenant_id = ANY ($1))`,
    [tenantIds],
  );
}

interface State {
  readonly status: string;
  readonly operations: { readonly nodes: readonly { readonly status: string }[] };
  readonly activatedAt: string | null;
}

/** How a tenant is. */
export async function stateOf(gateway: TestGateway, id: string): Promise<State> {
  const { tenant } = await gateway.graphql<{ tenant: State }>(
    'query ($id: ID!) { tenant(id: $id) { status activatedAt operations { nodes { status } } } }',
    { id },
  );
  return tenant;
}

/** Resolves once a tenant has come to a status. */
export async function becomes(gateway: TestGateway, id: string, status: string): Promise<void> {
  await expect
    .poll(async () => (await stateOf(gateway, id)).status, { timeout: 20_000, interval: 100 })
    .toBe(status);
}

/** `Mutation.cancelOperation`. */
export async function cancel(
  gateway: TestGateway,
  id: string,
  headers: Record<string, string> = {},
): Promise<{ operation: { id: string; status: string } | null; userErrors: UserError[] }> {
  const { json } = await gateway.post(
    '/graphql',
    {
      query: `mutation ($id: ID!) { cancelOperation(input: { id: $id }) {
        operation { id status } userErrors { code message field } } }`,
      variables: { id },
    },
    headers,
  );
  return (json as { data: { cancelOperation: Awaited<ReturnType<typeof cancel>> } }).data
    .cancelOperation;
}
