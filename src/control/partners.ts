import type { Knex } from 'knex';
import { appendAudit, renameAction, type AuditRecord } from './audit.ts';
import { controlSchema } from './database.ts';

/** Rows of a partner, by kind. */
export interface PartnerRows {
  readonly tenants: number;
  readonly operations: number;
  readonly batches: number;
}

/** What a rename changed. */
export interface RenamedRows extends PartnerRows {
  readonly idempotencyKeys: number;
}

export type RenameResult =
  | { readonly renamed: RenamedRows }
  /** Nothing was changed: no row is of the old name. */
  | { readonly problem: 'UNKNOWN' }
  /** Nothing was changed: rows of the new name exist. */
  | { readonly problem: 'TAKEN'; readonly rows: PartnerRows };

export interface RenameOptions {
  readonly from: string;
  readonly to: string;
  /** Whether `to` may have rows already. */
  readonly merge: boolean;
  /** What the row of the audit log says, but for its details. */
  readonly record: Omit<AuditRecord, 'action' | 'details' | 'tenantId'>;
}

/** Tables that carry a partner, beside the audit log, whose rows keep the name that they were written with. */
const partnerTables = ['tenants', 'operations', 'batches'] as const;

/** For writers that are under way: whoever waits longer blocks everybody behind. */
const lockTimeoutMs = 5_000;

/**
 * Gives all rows of a partner another name, in one transaction that no writer sees half of. Idempotency keys
 * go with it: a retry is still replayed. Counts of rate limits stay, since they are over within a minute.
 */
export async function renamePartner(control: Knex, options: RenameOptions): Promise<RenameResult> {
  const { from, to, merge, record } = options;
  return control.transaction(async (trx): Promise<RenameResult> => {
    await trx.raw(`SET LOCAL lock_timeout = ${lockTimeoutMs}`);
    const locked = [...partnerTables, 'idempotency_records'].map(
      (name) => `${controlSchema}.${name}`,
    );
    await trx.raw(`LOCK TABLE ${locked.join(', ')} IN SHARE ROW EXCLUSIVE MODE`);
    if (isEmpty(await countRows(trx, from))) return { problem: 'UNKNOWN' };
    const existing = await countRows(trx, to);
    if (!merge && !isEmpty(existing)) return { problem: 'TAKEN', rows: existing };
    const counts = {
      tenants: await renameRows(trx, 'tenants', from, to),
      operations: await renameRows(trx, 'operations', from, to),
      batches: await renameRows(trx, 'batches', from, to),
      idempotencyKeys: await renameCallers(trx, from, to),
    };
    await appendAudit(trx, {
      ...record,
      action: renameAction,
      tenantId: null,
      details: { from, to, ...counts },
    });
    return { renamed: counts };
  });
}

async function countRows(trx: Knex.Transaction, partner: string): Promise<PartnerRows> {
  const counts: number[] = [];
  for (const table of partnerTables) {
    const query = trx.withSchema(controlSchema).from(table).where({ partner });
    const row = (await query.count({ count: '*' }).first()) as { count: number };
    counts.push(row.count);
  }
  const [tenants = 0, operations = 0, batches = 0] = counts;
  return { tenants, operations, batches };
}

function isEmpty({ tenants, operations, batches }: PartnerRows): boolean {
  return tenants + operations + batches === 0;
}

async function renameRows(
  trx: Knex.Transaction,
  table: (typeof partnerTables)[number],
  from: string,
  to: string,
): Promise<number> {
  return trx.withSchema(controlSchema).from(table).where({ partner: from }).update({ partner: to });
}

/** A caller is the JSON of its kind, partner and subject. */
async function renameCallers(trx: Knex.Transaction, from: string, to: string): Promise<number> {
  const table = `${controlSchema}.idempotency_records`;
  const { rows } = (await trx.raw(
    `SELECT DISTINCT caller FROM ${table} WHERE pg_catalog.strpos(caller, ?) > 0`,
    [JSON.stringify(from)],
  )) as { rows: { caller: string }[] };
  let count = 0;
  for (const { caller } of rows) {
    const [kind, partner, subject] = JSON.parse(caller) as unknown[];
    if (partner !== from) continue;
    const renamed = JSON.stringify([kind, to, subject]);
    // After a merge, what the new name did with a key counts.
    await trx.raw(
      `DELETE FROM ${table} old USING ${table} new
       WHERE old.caller = ? AND new.caller = ? AND new.mutation = old.mutation AND new.key = old.key`,
      [caller, renamed],
    );
    count += await trx
      .withSchema(controlSchema)
      .from('idempotency_records')
      .where({ caller })
      .update({ caller: renamed });
  }
  return count;
}
