import type { Knex } from 'knex';
import { controlSchema, type Control } from './database.ts';

export const driftKinds = [
  'ORPHAN',
  'MISSING',
  'UNMARKED',
  'WRONG_OWNER',
  'WRONG_GRANTS',
  'WRONG_VERSION',
  'HALF_DROPPED',
  'OPEN_SESSION',
  'LEFTOVER_ROLE',
] as const;
export type DriftKind = (typeof driftKinds)[number];

/** Something on a cluster that is not as the registry has it. */
export interface Drift {
  readonly kind: DriftKind;
  readonly objectType: 'DATABASE' | 'SCHEMA' | 'ROLE';
  readonly objectName: string;
  /** The tenant it is or was made for; null: none is known. */
  readonly tenantId: string | null;
  /** For operators: what is wrong, and what comes of it. */
  readonly detail: string;
}

/** The same as it was recorded. */
export interface DriftFinding extends Drift {
  readonly cluster: string;
  readonly firstSeenAt: Date;
}

const columns = {
  cluster: 'cluster',
  kind: 'kind',
  objectType: 'object_type',
  objectName: 'object_name',
  tenantId: 'tenant_id',
  detail: 'detail',
  firstSeenAt: 'first_seen_at',
} as const satisfies Record<keyof DriftFinding, string>;

/** The findings of all clusters, the oldest first; at most `limit`. */
export async function listDrift(control: Control, limit: number): Promise<DriftFinding[]> {
  return (await table(control)
    .orderBy(['first_seen_at', 'cluster', 'object_type', 'object_name', 'kind'])
    .limit(limit)
    .select(columns)) as DriftFinding[];
}

// A statement takes 65,535 values at most.
const rowsAtOnce = 1000;

/**
 * Replaces the findings of a cluster. One that was there before keeps the moment it was first seen.
 *
 * @param kept tenants whose WRONG_VERSION findings stay: they were not looked at
 */
export async function replaceDrift(
  control: Knex,
  cluster: string,
  found: readonly Drift[],
  kept: readonly string[],
): Promise<void> {
  const rows = found.map((drift) => ({
    cluster,
    kind: drift.kind,
    object_type: drift.objectType,
    object_name: drift.objectName,
    tenant_id: drift.tenantId,
    detail: drift.detail,
  }));
  await control.transaction(async (trx) => {
    await table(trx)
      .where({ cluster })
      .whereRaw("NOT (kind = 'WRONG_VERSION' AND tenant_id = ANY (?))", [kept as string[]])
      .whereRaw(
        `NOT EXISTS (SELECT FROM jsonb_to_recordset(?::jsonb)
           AS still (kind text, object_type text, object_name text)
           WHERE still.kind = drift_findings.kind AND still.object_type = drift_findings.object_type
             AND still.object_name = drift_findings.object_name)`,
        [JSON.stringify(rows)],
      )
      .delete();
    for (let start = 0; start < rows.length; start += rowsAtOnce) {
      await table(trx)
        .insert(rows.slice(start, start + rowsAtOnce))
        .onConflict(['cluster', 'kind', 'object_type', 'object_name'])
        .merge(['tenant_id', 'detail']);
    }
  });
}

/** Which instance compares which cluster, for how long. */
export interface ReconcileTurn {
  readonly cluster: string;
  readonly keeper: string;
  readonly seconds: number;
}

/**
 * Makes `keeper` the one who compares a cluster, when that is due and nobody else does. The first time,
 * it is due after one interval: what is new has nothing to compare yet.
 */
export async function beginReconcile(
  control: Control,
  { cluster, keeper, seconds }: ReconcileTurn,
  intervalSeconds: number,
): Promise<boolean> {
  await control.raw(
    `INSERT INTO ${controlSchema}.reconcile_runs (cluster, until, due_at)
     VALUES (?, now(), now() + ? * interval '1 second') ON CONFLICT DO NOTHING`,
    [cluster, intervalSeconds],
  );
  const changed = await runs(control)
    .where({ cluster })
    .whereRaw('until <= now() AND due_at <= now()')
    .update({ keeper, until: control.raw("now() + ? * interval '1 second'", [seconds]) });
  return changed === 1;
}

/** Prolongs the turn. False: it has run out, and another instance has taken it. */
export async function keepReconcile(
  control: Control,
  { cluster, keeper, seconds }: ReconcileTurn,
): Promise<boolean> {
  const changed = await runs(control)
    .where({ cluster, keeper })
    .update({ until: control.raw("now() + ? * interval '1 second'", [seconds]) });
  return changed === 1;
}

/** Ends the turn: the next one is due after `seconds`. */
export async function endReconcile(
  control: Control,
  { cluster, keeper }: Omit<ReconcileTurn, 'seconds'>,
  seconds: number,
  finished: boolean,
): Promise<void> {
  await runs(control)
    .where({ cluster, keeper })
    .update({
      keeper: null,
      until: control.fn.now(),
      due_at: control.raw("now() + ? * interval '1 second'", [seconds]),
      ...(finished ? { finished_at: control.fn.now() } : {}),
    });
}

function table(control: Control): Knex.QueryBuilder {
  return control.withSchema(controlSchema).from('drift_findings');
}

function runs(control: Control): Knex.QueryBuilder {
  return control.withSchema(controlSchema).from('reconcile_runs');
}
