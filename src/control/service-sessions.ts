import { controlSchema, type Control } from './database.ts';

/** A service login of a cluster. */
export interface ServiceLoginName {
  readonly cluster: string;
  readonly role: string;
}

/** One use of a service login. */
export interface ServiceUse extends ServiceLoginName {
  /** Id of the use. */
  readonly holder: string;
}

/**
 * Records the use of a service login, for `seconds` unless it is prolonged.
 *
 * @returns false while another use lasts
 */
export async function beginServiceUse(
  control: Control,
  { cluster, role, holder }: ServiceUse,
  seconds: number,
): Promise<boolean> {
  const { rows } = await control.raw<{ rows: unknown[] }>(
    `INSERT INTO ${controlSchema}.service_sessions AS used (cluster, role, holder, expires_at)
     VALUES (?, ?, ?, now() + ? * interval '1 second')
     ON CONFLICT (cluster, role) DO UPDATE
       SET holder = excluded.holder, pid = NULL, expires_at = excluded.expires_at
       WHERE used.expires_at < now()
     RETURNING 1`,
    [cluster, role, holder, seconds],
  );
  return rows.length > 0;
}

/**
 * Prolongs a use, and records its backend where that is known by now.
 *
 * @returns false when the use is over: it was not prolonged in time, and another one may have begun
 */
export async function keepServiceUse(
  control: Control,
  { cluster, role, holder }: ServiceUse,
  seconds: number,
  pid: number | null,
): Promise<boolean> {
  const changed = await control
    .withSchema(controlSchema)
    .from('service_sessions')
    .where({ cluster, role, holder })
    .whereRaw('expires_at >= now()')
    .update({
      pid: control.raw('coalesce(?, pid)', [pid]),
      expires_at: control.raw("now() + ? * interval '1 second'", [seconds]),
    });
  return changed > 0;
}

/** Forgets a use that has ended. */
export async function endServiceUse(
  control: Control,
  { cluster, role, holder }: ServiceUse,
): Promise<void> {
  await control
    .withSchema(controlSchema)
    .from('service_sessions')
    .where({ cluster, role, holder })
    .delete();
}

/** The uses that last on a cluster, by their role; `pid` null: not connected yet. */
export async function listServiceUses(
  control: Control,
  cluster: string,
): Promise<ReadonlyMap<string, { readonly pid: number | null }>> {
  const rows = (await control
    .withSchema(controlSchema)
    .from('service_sessions')
    .where({ cluster })
    .whereRaw('expires_at >= now()')
    .select({ role: 'role', pid: 'pid' })) as { role: string; pid: number | null }[];
  return new Map(rows.map(({ role, pid }) => [role, { pid }]));
}
