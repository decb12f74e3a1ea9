import { controlSchema, type Control } from './database.ts';
import type { OperationStatus } from './operations.ts';
import type { IsolationKind } from './tenants.ts';

/** Something that the registry has on a cluster, by the names it has there. */
export interface Registered {
  readonly source: 'TENANT' | 'STANDBY' | 'TEMPLATE' | 'SHARED';
  /** Of the tenant, standby, template or shared database. */
  readonly id: string;
  readonly isolation: IsolationKind;
  readonly databaseName: string;
  readonly schemaName: string | null;
  /** Null: it has no roles of its own. */
  readonly ownerRole: string | null;
  readonly loginRole: string | null;
  /** Whether its service login has to exist: versions before made none. */
  readonly hasService: boolean;
  readonly migrationVersion: string | null;
  /** Whether it has to be there, as nothing works on it at present. */
  readonly settled: boolean;
  /** Whether its login role has to be let in; null: not known. */
  readonly mayLogIn: boolean | null;
  /** Its undo should have ended long ago, and has not. */
  readonly stuck: boolean;
  /** A template that is being dropped. */
  readonly dropping: boolean;
}

/**
 * All that the registry has on a cluster: tenants whose database is not known to be gone, standbys,
 * templates and shared databases.
 *
 * @param graceSeconds after an operation's deadline its undo counts as stuck this much later
 */
export async function listRegistered(
  control: Control,
  cluster: string,
  graceSeconds: number,
): Promise<Registered[]> {
  const { rows } = await control.raw<{ rows: Registered[] }>(
    `SELECT 'TENANT' AS source, d.tenant_id AS id, d.isolation, d.database_name AS "databaseName",
       d.schema_name AS "schemaName", d.owner_role AS "ownerRole", d.login_role AS "loginRole",
       d.role_layout > 0 AS "hasService", d.migration_version AS "migrationVersion", d.status <> 'PENDING' AND o.id IS NULL AS settled,
       CASE t.status WHEN 'ACTIVE' THEN true WHEN 'SUSPENDED' THEN false WHEN 'DELETED' THEN false
         END AS "mayLogIn",
       coalesce(o.status = 'COMPENSATING'
         AND o.deadline_at + :grace * interval '1 second' < now(), false) AS stuck,
       false AS dropping
     FROM control_plane.tenant_databases d
     JOIN control_plane.tenants t ON t.id = d.tenant_id
     LEFT JOIN control_plane.operations o ON o.tenant_id = t.id AND o.finished_at IS NULL
     WHERE d.cluster = :cluster AND d.status <> 'DROPPED'
     UNION ALL
     SELECT 'STANDBY', id, isolation, database_name, schema_name, owner_role, login_role,
       false, migration_version, status = 'READY', true, false, false
     FROM control_plane.standbys WHERE cluster = :cluster
     UNION ALL
     SELECT 'TEMPLATE', id, 'DATABASE', database_name, NULL, owner_role, NULL, false, migration_version,
       status = 'READY', NULL, false, status = 'DROPPING'
     FROM control_plane.templates WHERE cluster = :cluster
     UNION ALL
     SELECT 'SHARED', s.id, 'SCHEMA', s.database_name, NULL, NULL, NULL, false, NULL,
       EXISTS (SELECT FROM control_plane.tenant_databases d WHERE d.cluster = s.cluster
         AND d.database_name = s.database_name AND d.isolation = 'SCHEMA'
         AND d.status NOT IN ('PENDING', 'DROPPED')), NULL, false, false
     FROM control_plane.shared_databases s WHERE s.cluster = :cluster`,
    { cluster, grace: graceSeconds },
  );
  return rows;
}

/** What an operation left on a cluster that should be gone: by the names it may have there. */
export interface Remains {
  readonly tenantId: string;
  readonly operationId: string;
  readonly cluster: string;
  readonly isolation: IsolationKind;
  readonly databaseName: string;
  readonly schemaName: string | null;
  readonly ownerRole: string;
  readonly loginRole: string;
  /** Null: a standby's, which no tenant took. */
  readonly operationStatus: OperationStatus | null;
  /** Whether it ended without success, and the grace period is over. */
  readonly forfeit: boolean;
}

/**
 * The operations and given-up standbys of these ids whose tenant has no database any more, and nothing
 * under way. An operation that the registry does not know is not among them.
 */
export async function findRemains(
  control: Control,
  cluster: string,
  operationIds: readonly string[],
  graceSeconds: number,
): Promise<Remains[]> {
  const { rows } = await control.raw<{ rows: Remains[] }>(
    `SELECT o.tenant_id AS "tenantId", o.id AS "operationId", d.cluster, d.isolation,
       d.database_name AS "databaseName", d.schema_name AS "schemaName",
       d.owner_role AS "ownerRole", d.login_role AS "loginRole", o.status AS "operationStatus",
       o.status IN ('COMPENSATED', 'FAILED', 'CANCELLED')
         AND o.finished_at + :grace * interval '1 second' <= now() AS forfeit
     FROM control_plane.operations o
     JOIN control_plane.tenant_databases d ON d.tenant_id = o.tenant_id
     WHERE o.id = ANY (:ids) AND o.kind = 'CREATE' AND d.cluster = :cluster
       AND d.status = 'DROPPED' AND NOT EXISTS (SELECT FROM control_plane.operations other
         WHERE other.tenant_id = o.tenant_id AND other.finished_at IS NULL)
     UNION ALL
     SELECT id, operation_id, cluster, isolation, database_name, schema_name, owner_role, login_role,
       NULL, ended_at + :grace * interval '1 second' <= now()
     FROM control_plane.ended_standbys e
     WHERE operation_id = ANY (:ids) AND cluster = :cluster
       AND NOT EXISTS (SELECT FROM control_plane.tenant_databases d WHERE d.tenant_id = e.id)`,
    { cluster, ids: operationIds, grace: graceSeconds },
  );
  return rows;
}

/**
 * Forgets standbys that were given up so long ago that nobody can still be making one; not those of which
 * the last comparison found something.
 */
export async function forgetEndedStandbys(control: Control, days: number): Promise<void> {
  await control
    .withSchema(controlSchema)
    .from('ended_standbys')
    .whereRaw("ended_at < now() - ? * interval '1 day'", [days])
    .whereRaw(
      `NOT EXISTS (SELECT FROM ${controlSchema}.drift_findings f WHERE f.tenant_id = ended_standbys.id)`,
    )
    .delete();
}
