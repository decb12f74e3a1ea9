import { expect, inject } from 'vitest';
import { onServer, withDatabase } from '../control-template.ts';
import type { TestGateway, World } from '../harness.ts';

/** Everything that exists of one tenant, apart from its history. */
export interface Traces {
  /** Databases that are the tenant's alone, or schemas in the shared one. */
  readonly places: readonly string[];
  readonly roles: readonly string[];
  readonly sessions: readonly string[];
  readonly status: string;
  readonly databaseStatus: string;
  readonly sealed: string | null;
  readonly secrets: string | null;
  readonly operationStatus: string;
  readonly apiKeys: number;
  readonly idempotencyRecords: number;
  readonly openJobs: number;
}

/** What is there of an operation's tenant, by names and by markers, registry and server. */
export async function tracesOf(world: World, operationId: string): Promise<Traces> {
  const [found] = await world.query<Omit<Traces, 'places'> & Places>(
    `WITH named AS (
       SELECT o.id AS operation_id, o.status AS operation_status, o.secrets_encrypted,
              t.status AS tenant_status, d.*, 'car_' || replace(t.id::text, '-', '_') AS opaque
       FROM control_plane.operations o
       JOIN control_plane.tenants t ON t.id = o.tenant_id
       JOIN control_plane.tenant_databases d ON d.tenant_id = t.id
       WHERE o.id = $1)
     SELECT
       ARRAY(SELECT datname::text FROM pg_database WHERE datname IN (n.database_name, n.opaque)
               AND n.isolation = 'DATABASE'
             OR shobj_description(oid, 'pg_database') LIKE '%' || n.tenant_id || '%') AS databases,
       n.tenant_id AS "tenantId", n.schema_name AS "schemaName",
       ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname IN (n.owner_role, n.login_role)
             OR shobj_description(oid, 'pg_authid') LIKE '%' || n.tenant_id || '%'
             ORDER BY 1) AS roles,
       ARRAY(SELECT application_name FROM pg_stat_activity
             WHERE datname IN (n.database_name, n.opaque) AND n.isolation = 'DATABASE'
                OR usename IN (n.owner_role, n.login_role,
                  'svc_' || replace(n.tenant_id::text, '-', '_'))) AS sessions,
       n.tenant_status AS status, n.status AS "databaseStatus",
       n.connection_string_encrypted AS sealed, n.secrets_encrypted AS secrets,
       n.operation_status AS "operationStatus",
       (SELECT count(*)::int FROM control_plane.api_keys k WHERE k.tenant_id = n.tenant_id)
         AS "apiKeys",
       (SELECT count(*)::int FROM control_plane.idempotency_records r
        WHERE r.operation_id = n.operation_id) AS "idempotencyRecords",
       (SELECT count(*)::int FROM control_plane_jobs.job j
        WHERE j.id = n.operation_id AND j.state < 'completed') AS "openJobs"
     FROM named n`,
    [operationId],
  );
  if (found === undefined) throw new Error(`no operation ${operationId}`);
  const { databases, tenantId, schemaName, ...traces } = found;
  const schemas = await schemasOf(world, tenantId, schemaName);
  return { places: [...databases, ...schemas], ...traces };
}

interface Places {
  readonly databases: readonly string[];
  readonly tenantId: string;
  readonly schemaName: string | null;
}

/** Schemas in the shared database that are this tenant's, by name or by marker. */
async function schemasOf(world: World, tenantId: string, name: string | null): Promise<string[]> {
  const found = await markedSchemas(world);
  return found
    .filter((schema) => schema.name === name || schema.marker?.includes(tenantId) === true)
    .map((schema) => schema.name);
}

/** The schemas of the shared database with their comments; none when it is not there. */
export async function markedSchemas(
  world: World,
): Promise<{ readonly name: string; readonly marker: string | null }[]> {
  const shared = world.sharedDatabase;
  const [exists] = await world.query('SELECT FROM pg_database WHERE datname = $1', [shared]);
  if (exists === undefined) return [];
  return onServer(withDatabase(inject('serverUrl'), shared), async (client) => {
    const { rows } = await client.query<{ name: string; marker: string | null }>(
      `SELECT nspname AS name, obj_description(oid, 'pg_namespace') AS marker FROM pg_namespace`,
    );
    return rows;
  });
}

/** Nothing is left of a tenant whose creation failed: on the server, in the registry, in the lists. */
export async function expectNothingLeft(
  world: World,
  gateway: TestGateway,
  operationId: string,
): Promise<void> {
  expect(await tracesOf(world, operationId)).toEqual({
    places: [],
    roles: [],
    sessions: [],
    status: 'FAILED',
    databaseStatus: 'DROPPED',
    sealed: null,
    secrets: null,
    operationStatus: 'COMPENSATED',
    apiKeys: 0,
    idempotencyRecords: 0,
    openJobs: 0,
  } satisfies Traces);
  const { operation, listed, failed } = await gateway.graphql<{
    operation: { tenant: { id: string; status: string } };
    listed: { nodes: { id: string }[] };
    failed: { nodes: { id: string }[] };
  }>(
    `query ($id: ID!) {
      operation(id: $id) { tenant { id status } }
      listed: tenants(first: 100) { nodes { id } }
      failed: tenants(first: 100, filter: { status: [FAILED] }) { nodes { id } }
    }`,
    { id: operationId },
  );
  const { id } = operation.tenant;
  expect(listed.nodes.map((node) => node.id)).not.toContain(id);
  expect(failed.nodes.map((node) => node.id)).toContain(id);
}

export interface EventRow {
  readonly step: string;
  readonly status: string;
  readonly operationStatus: string;
  readonly percent: number;
  readonly message: string;
}

/** The events of an operation that has ended, in order. Asks until the last one is there. */
export async function endedEvents(world: World, operationId: string): Promise<EventRow[]> {
  return expect
    .poll(() => events(world, operationId), { timeout: 15_000 })
    .toSatisfy((rows: EventRow[]) => isEnd(rows.at(-1)))
    .then(() => events(world, operationId));
}

/** The events of an operation so far, in order. */
export function events(world: World, operationId: string): Promise<EventRow[]> {
  return world.query<EventRow>(
    `SELECT step, status, operation_status AS "operationStatus", percent, message
     FROM control_plane.operation_events WHERE operation_id = $1 ORDER BY sequence`,
    [operationId],
  );
}

/** The rules that hold for the events of every operation, however it went. */
export function expectOrderly(rows: readonly EventRow[]): void {
  const percents = rows.map((row) => row.percent);
  expect(percents, 'never goes back').toEqual(percents.toSorted((a, b) => a - b));
  expect(rows.filter(isEnd), 'one end').toEqual([rows.at(-1)]);
  for (const row of rows) expect(row.percent === 100).toBe(row.operationStatus === 'SUCCEEDED');
  const undone = rows.filter((row) => row.operationStatus.startsWith('COMPENSAT'));
  expect(new Set(undone.map((row) => row.percent)).size, 'stands still').toBeLessThanOrEqual(1);
}

function isEnd(row: EventRow | undefined): boolean {
  return row?.operationStatus === 'SUCCEEDED' || row?.operationStatus === 'COMPENSATED';
}
