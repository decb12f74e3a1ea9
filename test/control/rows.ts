import { randomUUID } from 'node:crypto';
import type { Knex } from 'knex';
import { openControl } from '../../src/control/database.ts';
import { connectionOptions } from '../../src/postgres/connection.ts';
import type { World } from '../harness.ts';

/** The registry of a world, as an instance sees it. Destroy it before the world is closed. */
export function openRegistry(world: World): Knex {
  return openControl({
    connection: connectionOptions(world.controlUrl, {
      applicationName: 'test',
      statementTimeoutMs: 30_000,
    }),
    poolMax: 4,
    poolTimeoutMs: 10_000,
  });
}

/** Columns of `control_plane.tenants` that a test gives; the rest is what an ACTIVE tenant has. */
export type TenantColumns = Readonly<Record<string, unknown>>;

/** Inserts a tenant as it is, without any of the product's own checks; returns its id. */
export async function insertTenantRow(world: World, columns: TenantColumns = {}): Promise<string> {
  const id = randomUUID();
  await insertRow(world, 'tenants', {
    id,
    partner: 'platform',
    name: 'Tenant',
    slug: `t${id.replaceAll('-', '')}`,
    environment: 'PRODUCTION',
    status: 'ACTIVE',
    settings: '{}',
    isolation: 'DATABASE',
    activated_at: new Date(),
    ...columns,
  });
  return id;
}

/** Inserts an operation that runs; returns its id. */
export async function insertOperationRow(
  world: World,
  tenantId: string,
  columns: TenantColumns = {},
): Promise<string> {
  const id = randomUUID();
  await insertRow(world, 'operations', {
    id,
    kind: 'CREATE',
    status: 'RUNNING',
    tenant_id: tenantId,
    partner: 'platform',
    actor: 'somebody',
    started_at: new Date(),
    deadline_at: new Date(Date.now() + 60_000),
    ...columns,
  });
  return id;
}

/** Inserts one row into a table of the registry. */
export async function insertRow(
  world: World,
  table: string,
  columns: TenantColumns,
): Promise<void> {
  const names = Object.keys(columns);
  await world.query(
    `INSERT INTO control_plane.${table} (${names.join()})
     VALUES (${names.map((_, index) => `$${index + 1}`).join()})`,
    Object.values(columns),
  );
}
