import type { World } from '../harness.ts';

export interface OperationRow {
  readonly id: string;
  readonly tenantId: string;
}

/** Records open operations that nobody runs, each on a tenant of its own. */
export function makeOperations(world: World, count: number): Promise<OperationRow[]> {
  return world.query<OperationRow>(
    `WITH made AS (
       INSERT INTO control_plane.tenants (id, partner, name, slug, environment, status, settings, isolation)
       SELECT gen_random_uuid(), 'p', 'n', 's' || md5(random()::text), 'STAGING', 'PROVISIONING', '{}',
         'DATABASE'
       FROM generate_series(1, $1) RETURNING id)
     INSERT INTO control_plane.operations (id, kind, status, tenant_id, partner, actor, deadline_at)
     SELECT gen_random_uuid(), 'CREATE', 'RUNNING', id, 'p', 'a', now() + interval '1 day' FROM made
     RETURNING id, tenant_id AS "tenantId"`,
    [count],
  );
}

export async function makeOperation(world: World): Promise<OperationRow> {
  const [operation] = await makeOperations(world, 1);
  return operation!;
}

/** Writes events of an operation, without telling anybody. */
export async function writeEvents(
  world: World,
  { id, tenantId }: OperationRow,
  { count, messageLength }: { readonly count: number; readonly messageLength: number },
): Promise<void> {
  await world.query(
    `INSERT INTO control_plane.operation_events
       (operation_id, tenant_id, step, status, operation_status, percent, message, at)
     SELECT $1, $2, 'create_role', 'RETRYING', 'RUNNING', 25, repeat('x', $4), now()
     FROM generate_series(1, $3)`,
    [id, tenantId, count, messageLength],
  );
}

/** One that has succeeded, with three events. */
export async function makeEndedOperation(world: World): Promise<OperationRow> {
  const ended = await makeOperation(world);
  await writeEvents(world, ended, { count: 2, messageLength: 5 });
  await world.query(
    `WITH last AS (
       INSERT INTO control_plane.operation_events
         (operation_id, tenant_id, step, status, operation_status, percent, message, at)
       VALUES ($1, $2, 'activate', 'SUCCEEDED', 'SUCCEEDED', 100, 'done', now()))
     UPDATE control_plane.operations SET status = 'SUCCEEDED', finished_at = now() WHERE id = $1`,
    [ended.id, ended.tenantId],
  );
  return ended;
}
