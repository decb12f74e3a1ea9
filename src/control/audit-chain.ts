import { createHash } from 'node:crypto';
import type { Knex } from 'knex';
import { appendAudit, type AuditRecord } from './audit.ts';
import { controlSchema } from './database.ts';

/** Place in the chain: how many entries there are up to it, and the hash of the last of them. */
export interface ChainPlace {
  readonly sequence: number;
  /** 64 hex characters. */
  readonly hash: string;
}

/** Something that is not as it was written. */
export interface ChainFinding {
  /** Of the entries it concerns; null: it concerns a row that is no entry. */
  readonly sequence: number | null;
  /** Id of the row of the audit log; null: not known any more. */
  readonly auditId: number | null;
  readonly problem: string;
}

export interface ChainReport {
  readonly checked: number;
  readonly findings: readonly ChainFinding[];
  /** Entries up to here were pruned; sequence 0: none were. */
  readonly anchor: ChainPlace;
  /** Note it elsewhere: only so shows that somebody wrote the whole chain anew. */
  readonly head: ChainPlace;
}

const pageSize = 1000;

/**
 * Checks the whole audit log against its hash chain, in one snapshot: gateways may run.
 *
 * @param noted a head that an earlier check reported; it must still be in the chain
 */
export async function verifyAuditChain(control: Knex, noted?: ChainPlace): Promise<ChainReport> {
  return control.transaction(
    async (trx) => {
      const { anchor, head } = await readHead(trx);
      const findings: ChainFinding[] = [];
      let last = anchor;
      let checked = 0;
      if (noted !== undefined) findings.push(...notedFindings(noted, anchor, anchor));
      for (;;) {
        const entries = await readEntries(trx, last.sequence);
        for (const entry of entries) {
          findings.push(...checkEntry(entry, last));
          if (noted !== undefined) findings.push(...notedFindings(noted, anchor, entry));
          last = entry;
        }
        checked += entries.length;
        if (entries.length < pageSize) break;
      }
      findings.push(...checkTail(last, head), ...(await strayRows(trx, anchor)));
      if (noted !== undefined && noted.sequence > last.sequence) {
        const problem = `the head that was noted, entry ${noted.sequence}, is removed`;
        findings.push({ sequence: noted.sequence, auditId: null, problem });
      }
      return { checked, findings, anchor, head };
    },
    { isolationLevel: 'repeatable read', readOnly: true },
  );
}

/** An entry, with its row: null where that is gone. */
interface Entry extends ChainPlace {
  readonly auditId: number;
  readonly fields: readonly (string | null)[] | null;
}

function checkEntry(entry: Entry, last: ChainPlace): ChainFinding[] {
  const { auditId, fields, hash, sequence } = entry;
  const expected = last.sequence + 1;
  if (sequence !== expected) {
    const gap =
      sequence - 1 === expected
        ? `entry ${expected} is removed`
        : `entries ${expected} to ${sequence - 1} are removed`;
    // What the entry after a gap followed is not known: its own hash proves nothing.
    const removed = { sequence: expected, auditId: null, problem: gap };
    return fields === null ? [removed, rowRemoved(entry)] : [removed];
  }
  if (fields === null) return [rowRemoved(entry)];
  if (chainHash(last.hash, sequence, fields) === hash) return [];
  return [{ sequence, auditId, problem: `entry ${sequence} (row ${auditId}) was changed` }];
}

function rowRemoved({ sequence, auditId }: Entry): ChainFinding {
  return { sequence, auditId, problem: `row ${auditId} of entry ${sequence} is removed` };
}

function checkTail(last: ChainPlace, head: ChainPlace): ChainFinding[] {
  if (last.sequence < head.sequence) {
    const problem = `the last entries, ${last.sequence + 1} to ${head.sequence}, are removed`;
    return [{ sequence: last.sequence + 1, auditId: null, problem }];
  }
  if (last.sequence === head.sequence && last.hash === head.hash) return [];
  const problem = `the chain does not end with its head, entry ${head.sequence}`;
  return [{ sequence: head.sequence, auditId: null, problem }];
}

function notedFindings(noted: ChainPlace, anchor: ChainPlace, place: ChainPlace): ChainFinding[] {
  if (place.sequence !== noted.sequence || place.hash === noted.hash) return [];
  const where = place === anchor ? 'the pruned part' : `entry ${place.sequence}`;
  const problem = `${where} is not what was noted: the chain was written anew`;
  return [{ sequence: place.sequence, auditId: null, problem }];
}

/** The same as `chain_audit` in migrations/20261121000040_audit_chain.ts makes of a row. */
function chainHash(previous: string, sequence: number, fields: readonly (string | null)[]): string {
  const number = Buffer.alloc(8);
  number.writeBigInt64BE(BigInt(sequence));
  const content = fields
    .map((field) => (field === null ? '-' : `${Buffer.byteLength(field)}:${field}`))
    .join(',');
  return createHash('sha256')
    .update(Buffer.from(previous, 'hex'))
    .update(number)
    .update(content)
    .digest('hex');
}

async function readHead(
  trx: Knex,
  locked = false,
): Promise<{ anchor: ChainPlace; head: ChainPlace }> {
  const query = trx.withSchema(controlSchema).from('audit_head');
  if (locked) void query.forUpdate();
  const row = (await query.first({
    sequence: 'sequence',
    hash: trx.raw("encode(hash, 'hex')"),
    anchorSequence: 'anchor_sequence',
    anchorHash: trx.raw("encode(anchor_hash, 'hex')"),
  })) as { sequence: number; hash: string; anchorSequence: number; anchorHash: string } | undefined;
  if (row === undefined) throw new Error('the head of the audit log is removed');
  return {
    head: { sequence: row.sequence, hash: row.hash },
    anchor: { sequence: row.anchorSequence, hash: row.anchorHash },
  };
}

async function readEntries(trx: Knex, after: number): Promise<Entry[]> {
  const { rows } = (await trx.raw(
    `SELECT entry.sequence, entry.audit_id AS "auditId", encode(entry.hash, 'hex') AS hash,
       CASE WHEN row.id IS NULL THEN NULL ELSE ARRAY[row.id::text,
         to_char(row.at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'),
         row.actor, row.partner, row.ip_address, row.action, row.tenant_id::text, row.from_status,
         row.to_status, row.outcome, row.request_id, row.details::text] END AS fields
     FROM ${controlSchema}.audit_chain entry
     LEFT JOIN ${controlSchema}.audit_log row ON row.id = entry.audit_id
     WHERE entry.sequence > ? ORDER BY entry.sequence LIMIT ${pageSize}`,
    [after],
  )) as { rows: Entry[] };
  return rows;
}

/** Rows that no entry tells of: somebody slipped them in, past the trigger. */
async function strayRows(trx: Knex, anchor: ChainPlace): Promise<ChainFinding[]> {
  const { rows } = (await trx.raw(
    `SELECT row.id FROM ${controlSchema}.audit_log row
     LEFT JOIN ${controlSchema}.audit_chain entry ON entry.audit_id = row.id
     WHERE entry.sequence IS NULL OR entry.sequence <= ? ORDER BY row.id LIMIT ${pageSize}`,
    [anchor.sequence],
  )) as { rows: { id: number }[] };
  return rows.map(({ id }) => {
    const problem = `row ${id} is in no entry: it was inserted past the chain`;
    return { sequence: null, auditId: id, problem };
  });
}

/** Whether this role may prune the audit log: its owner, and not the role that gateways run as. */
export async function mayPruneAudit(control: Knex): Promise<boolean> {
  const { rows } = (await control.raw(
    `SELECT has_table_privilege('${controlSchema}.audit_log', 'DELETE')
       AND has_table_privilege('${controlSchema}.audit_head', 'UPDATE') AS may`,
  )) as { rows: { may: boolean }[] };
  return rows[0]?.may === true;
}

/**
 * Removes the oldest entries, up to the first that is not older than so many days, a thousand at a
 * time. The chain goes on from its anchor, and a row of the audit log tells of it.
 *
 * @param record what that row says, but for its details
 * @returns how many
 */
export async function pruneAudit(
  control: Knex,
  olderThanDays: number,
  record: Omit<AuditRecord, 'details'>,
): Promise<number> {
  for (let pruned = 0; ;) {
    const count = await control.transaction((trx) => pruneSome(trx, olderThanDays, record));
    pruned += count;
    if (count < pageSize) return pruned;
  }
}

async function pruneSome(
  trx: Knex.Transaction,
  olderThanDays: number,
  record: Omit<AuditRecord, 'details'>,
): Promise<number> {
  const schema = trx.withSchema(controlSchema);
  // Two that prune at once take turns; whoever appends waits for this short transaction.
  const { anchor } = await readHead(trx, true);
  const { rows } = (await trx.raw(
    `SELECT entry.sequence, encode(entry.hash, 'hex') AS hash,
       row.at < now() - ? * interval '1 day' AS old
     FROM ${controlSchema}.audit_chain entry
     LEFT JOIN ${controlSchema}.audit_log row ON row.id = entry.audit_id
     WHERE entry.sequence > ? ORDER BY entry.sequence LIMIT ${pageSize}`,
    [olderThanDays, anchor.sequence],
  )) as { rows: (ChainPlace & { old: boolean | null })[] };
  const kept = rows.findIndex(({ old }) => old !== true);
  const going = kept === -1 ? rows : rows.slice(0, kept);
  const newest = going.at(-1);
  if (newest === undefined) return 0;
  await schema
    .from('audit_head')
    .update({ anchor_sequence: newest.sequence, anchor_hash: Buffer.from(newest.hash, 'hex') });
  await trx.raw(
    `DELETE FROM ${controlSchema}.audit_log WHERE id IN
       (SELECT audit_id FROM ${controlSchema}.audit_chain WHERE sequence <= ?)`,
    [newest.sequence],
  );
  await schema.from('audit_chain').where('sequence', '<=', newest.sequence).delete();
  await appendAudit(trx, { ...record, details: { through: newest.sequence, rows: going.length } });
  return going.length;
}
