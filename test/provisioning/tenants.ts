import pg from 'pg';
import { createKeyRing } from '../../src/crypto/envelope.ts';
import { tenantMarker } from '../../src/provisioning/names.ts';
import { connectionStringPurpose } from '../../src/provisioning/steps/encrypt-credentials.ts';
import type { TestGateway, World } from '../harness.ts';

/** What `Mutation.createTenant` answers, as far as these tests look at it. */
export interface CreatePayload {
  readonly tenant: {
    readonly id: string;
    readonly slug: string;
    readonly name: string;
    readonly domain: string | null;
    readonly status: string;
    readonly database: {
      readonly databaseName: string;
      readonly schemaName: string | null;
      readonly migrationVersion: string | null;
    };
    readonly apiKeys: readonly { readonly prefix: string }[];
  } | null;
  readonly operation: {
    readonly id: string;
    readonly status: string;
    readonly percent: number;
    readonly steps: readonly {
      readonly name: string;
      readonly status: string;
      readonly attempts: number;
    }[];
    readonly error: UserError | null;
  } | null;
  readonly apiKey: string | null;
  readonly userErrors: readonly UserError[];
}

export interface UserError {
  readonly code: string;
  readonly message: string;
  readonly field: readonly string[] | null;
}

const document = `mutation ($input: CreateTenantInput!) {
  createTenant(input: $input) {
    tenant {
      id slug name domain status database { databaseName schemaName migrationVersion } apiKeys { prefix }
    }
    operation { id status percent steps { name status attempts } error { code message field } }
    apiKey
    userErrors { code message field }
  }
}`;

/** `Mutation.createTenant`, whatever comes of it. */
export async function createTenant(gateway: TestGateway, input: object): Promise<CreatePayload> {
  const { createTenant: payload } = await gateway.graphql<{ createTenant: CreatePayload }>(
    document,
    { input },
  );
  return payload;
}

export type Made = CreatePayload & {
  readonly tenant: NonNullable<CreatePayload['tenant']>;
  readonly operation: NonNullable<CreatePayload['operation']>;
};

/** `Mutation.createTenant`; rejects unless the tenant was made. */
export async function makeTenant(gateway: TestGateway, input: object): Promise<Made> {
  const payload = await createTenant(gateway, input);
  if (payload.tenant?.status !== 'ACTIVE' || payload.operation === null) {
    throw new Error(`not made: ${JSON.stringify(payload)}`);
  }
  return payload as Made;
}

/** What everything carries that an operation made for a tenant. */
export async function markerOf(world: World, tenantId: string, operationId: string) {
  const [row] = await world.query<{ id: string }>('SELECT id FROM control_plane.installation');
  return tenantMarker(tenantId, operationId, row!.id);
}

/** The name of the database or schema that is the tenant's alone. */
export function placeOf({ tenant }: Made): string {
  return tenant.database.schemaName ?? tenant.database.databaseName;
}

/** The sealed connection string as the registry has it. */
export async function sealedConnection(world: World, tenantId: string): Promise<string | null> {
  const [row] = await world.query<{ sealed: string | null }>(
    `SELECT connection_string_encrypted AS sealed FROM control_plane.tenant_databases
     WHERE tenant_id = $1`,
    [tenantId],
  );
  return row?.sealed ?? null;
}

/** The connection string that is stored for a tenant, opened. */
export async function connectionString(world: World, tenantId: string): Promise<string> {
  const sealed = await sealedConnection(world, tenantId);
  if (sealed === null) throw new Error(`tenant ${tenantId} has no connection string`);
  return createKeyRing({ current: world.encryptionKey }).open(
    sealed,
    connectionStringPurpose,
    tenantId,
  );
}

/** Works as the tenant, with the credentials that are stored for it. */
export async function asTenant<T>(
  world: World,
  tenantId: string,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client(await connectionString(world, tenantId));
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** The SQLSTATE with which something is refused; rejects when it is not. */
export async function refusal(attempt: Promise<unknown>): Promise<string | undefined> {
  const error: unknown = await attempt.then(
    () => {
      throw new Error('it was allowed');
    },
    (reason: unknown) => reason,
  );
  if (error instanceof Error && error.message === 'it was allowed') throw error;
  return (error as { code?: string }).code;
}
