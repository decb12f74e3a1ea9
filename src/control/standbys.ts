import type { Knex } from 'knex';
import { controlSchema, sentTogether, type Control } from './database.ts';
import type { IsolationKind } from './tenants.ts';

/** A tenant database made ahead of need: all of it is there but the tenant. */
export interface Standby {
  /** Of the tenant that will take it. */
  readonly id: string;
  /** Of the create that will take it; part of its marker. */
  readonly operationId: string;
  readonly cluster: string;
  readonly isolation: IsolationKind;
  readonly databaseName: string;
  readonly schemaName: string | null;
  readonly ownerRole: string;
  readonly loginRole: string;
  /** Sealed as in an operation: the claiming one takes it over as it is. */
  readonly secretsEncrypted: string;
  /** Of all that went into it. */
  readonly recipeHash: Buffer;
  readonly migrationVersion: string | null;
  readonly status: StandbyStatus;
}

export type StandbyStatus = 'BUILDING' | 'READY' | 'REFRESHING' | 'DROPPING';

/** Which standbys are meant. */
export type StandbyPool = Pick<Standby, 'cluster' | 'isolation'>;

const columns = {
  id: 'id',
  operationId: 'operation_id',
  cluster: 'cluster',
  isolation: 'isolation',
  databaseName: 'database_name',
  schemaName: 'schema_name',
  ownerRole: 'owner_role',
  loginRole: 'login_role',
  secretsEncrypted: 'secrets_encrypted',
  recipeHash: 'recipe_hash',
  migrationVersion: 'migration_version',
  status: 'status',
} as const satisfies Record<keyof Standby, string>;

/** Records a standby before anything of its names exists. */
export async function insertStandby(
  control: Control,
  standby: Omit<Standby, 'status' | 'migrationVersion'>,
): Promise<void> {
  await table(control).insert({
    id: standby.id,
    operation_id: standby.operationId,
    cluster: standby.cluster,
    isolation: standby.isolation,
    database_name: standby.databaseName,
    schema_name: standby.schemaName,
    owner_role: standby.ownerRole,
    login_role: standby.loginRole,
    secrets_encrypted: standby.secretsEncrypted,
    recipe_hash: standby.recipeHash,
    status: 'BUILDING',
  });
}

/**
 * Takes the oldest ready standby of this recipe out of the pool, for the tenant that the transaction
 * makes; rolled back, it is there again. Never waits for another one's claim. Null: there is none.
 */
export async function claimStandby(
  trx: Control,
  pool: StandbyPool & Pick<Standby, 'recipeHash'>,
): Promise<Standby | null> {
  const result = await trx
    .raw<{ rows: Standby[] }>(claimStatement, [pool.cluster, pool.isolation, pool.recipeHash])
    .options({ name: 'claim_standby' });
  return result.rows[0] ?? null;
}

const claimStatement = `
  DELETE FROM ${controlSchema}.standbys WHERE id = (
    SELECT id FROM ${controlSchema}.standbys
    WHERE cluster = ? AND isolation = ? AND recipe_hash = ? AND status = 'READY'
    ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED)
  RETURNING ${returned('')}`;

/**
 * The same for several tenants that are made together: takes the oldest ones, and leaves `reserve` of
 * them ready where there are not enough for all. Those who take several wait for one another, so that
 * they leave as much together.
 *
 * @param most how many at most
 */
export async function claimStandbys(
  trx: Knex.Transaction,
  pool: StandbyPool & Pick<Standby, 'recipeHash'>,
  { most, reserve }: { readonly most: number; readonly reserve: number },
): Promise<Standby[]> {
  const names = [pool.cluster, pool.isolation, pool.recipeHash];
  const [, { rows }] = await sentTogether([
    // Counted under a lock: what another one has just taken is seen by the next statement.
    trx
      .raw('SELECT pg_advisory_xact_lock(hashtextextended(?, 3))', [pool.cluster])
      .options({ name: 'lock_standbys' }),
    trx
      .raw<{ rows: Standby[] }>(claimSeveralStatement, [...names, reserve, most, ...names])
      .options({ name: 'claim_standbys' }),
  ]);
  return rows;
}

const claimSeveralStatement = `
  WITH chosen AS MATERIALIZED (
    SELECT id FROM ${controlSchema}.standbys
    WHERE cluster = ? AND isolation = ? AND recipe_hash = ? AND status = 'READY'
    ORDER BY created_at
    LIMIT (SELECT CASE WHEN count(*) >= wanted.most THEN wanted.most
        ELSE greatest(0, count(*) - CAST(? AS int)) END
      FROM ${controlSchema}.standbys, (VALUES (CAST(? AS int))) AS wanted (most)
      WHERE cluster = ? AND isolation = ? AND recipe_hash = ? AND status = 'READY'
      GROUP BY wanted.most)
    FOR UPDATE SKIP LOCKED)
  DELETE FROM ${controlSchema}.standbys standby USING chosen WHERE standby.id = chosen.id
  RETURNING ${returned('standby.')}`;

/** The standbys of a cluster, oldest first. */
export async function listStandbys(control: Control, cluster: string): Promise<Standby[]> {
  return (await table(control)
    .where({ cluster })
    .orderBy(['created_at', 'id'])
    .select(columns)) as Standby[];
}

/** BUILDING or REFRESHING → READY. False: somebody took it for left behind, and dropped it. */
export async function readyStandby(
  control: Control,
  standby: Pick<Standby, 'id' | 'recipeHash' | 'migrationVersion'>,
): Promise<boolean> {
  const changed = await table(control)
    .where({ id: standby.id })
    .whereIn('status', ['BUILDING', 'REFRESHING'])
    .update({
      status: 'READY',
      recipe_hash: standby.recipeHash,
      migration_version: standby.migrationVersion,
      updated_at: control.fn.now(),
    });
  return changed === 1;
}

/** READY → REFRESHING or DROPPING: from here on nobody claims it. False: somebody just did. */
export async function withdrawStandby(
  control: Control,
  id: string,
  status: 'REFRESHING' | 'DROPPING',
): Promise<boolean> {
  const changed = await table(control)
    .where({ id, status: 'READY' })
    .update({ status, updated_at: control.fn.now() });
  return changed === 1;
}

/**
 * Takes a standby that is gone from its cluster out of the pool. That it was there stays known: whoever
 * was cut off while making it may still leave something behind.
 */
export async function deleteStandby(control: Control, id: string): Promise<void> {
  await control.raw(
    `WITH gone AS (DELETE FROM ${controlSchema}.standbys WHERE id = ? RETURNING *)
     INSERT INTO ${controlSchema}.ended_standbys (id, operation_id, cluster, isolation,
       database_name, schema_name, owner_role, login_role)
     SELECT id, operation_id, cluster, isolation, database_name, schema_name, owner_role, login_role
     FROM gone ON CONFLICT (id) DO NOTHING`,
    [id],
  );
}

/**
 * Makes `keeper` the one who makes standbys on a cluster, or keeps it so, for this long. False: another
 * one is.
 */
export async function keepStandbys(
  control: Control,
  cluster: string,
  keeper: string,
  seconds: number,
): Promise<boolean> {
  const { rows } = await control.raw<{ rows: unknown[] }>(
    `INSERT INTO ${controlSchema}.standby_keepers AS present (cluster, keeper, until)
     VALUES (?, ?, now() + ? * interval '1 second')
     ON CONFLICT (cluster) DO UPDATE SET keeper = excluded.keeper, until = excluded.until
       WHERE present.keeper = excluded.keeper OR present.until < now()
     RETURNING cluster`,
    [cluster, keeper, seconds],
  );
  return rows.length === 1;
}

/** Lets another instance make standbys on a cluster. */
export async function releaseStandbys(
  control: Control,
  cluster: string,
  keeper: string,
): Promise<void> {
  await control
    .withSchema(controlSchema)
    .from('standby_keepers')
    .where({ cluster, keeper })
    .delete();
}

function returned(table: string): string {
  return Object.entries(columns)
    .map(([property, column]) => `${table}${column} AS "${property}"`)
    .join(', ');
}

function table(control: Control): Knex.QueryBuilder {
  return control.withSchema(controlSchema).from('standbys');
}
