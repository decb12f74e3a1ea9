import type { TestGateway, World } from '../harness.ts';

/** Where contract A is served. */
export const path = '/api/v1/tenants';

export const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** One problem in the form of contract A's 422. */
export function problem(type: string, loc: readonly string[], msg: string) {
  return { detail: [{ type, loc: ['body', ...loc], msg }] };
}

/** Whether the database of a tenant exists on the server. */
export async function databaseExists(world: World, tenantId: string): Promise<boolean> {
  const rows = await world.query('SELECT FROM pg_database WHERE datname = $1', [
    `car_${tenantId.replaceAll('-', '_')}`,
  ]);
  return rows.length === 1;
}

/** How many tenants were recorded so far, whatever came of them. */
export async function countTenants(world: World): Promise<number> {
  const [row] = await world.query<{ count: number }>(
    'SELECT count(*)::int AS count FROM control_plane.tenants',
  );
  return row!.count;
}

/** A tenant as GraphQL shows it. */
export async function registered(gateway: TestGateway, id: string): Promise<unknown> {
  const { tenant } = await gateway.graphql<{ tenant: unknown }>(
    `query ($id: ID!) {
      tenant(id: $id) {
        name environment status isolation apiKeys { id }
        database { databaseName schemaName status }
      }
    }`,
    { id },
  );
  return tenant;
}
