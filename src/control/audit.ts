import type { Knex } from 'knex';
import { controlSchema, type Control } from './database.ts';
import { readPage, type Page, type PageRequest } from './pages.ts';
import { scoped, type Scope, type TenantStatus } from './tenants.ts';

/** One line of the audit log: who did what, from which state to which. */
export interface AuditRecord {
  /** Subject of the caller. */
  readonly actor: string;
  readonly partner: string;
  readonly ipAddress: string | null;
  /** Name of the mutation or of what the product did by itself, e.g. `createTenant`. */
  readonly action: string;
  readonly tenantId: string | null;
  readonly fromStatus: TenantStatus | null;
  readonly toStatus: TenantStatus | null;
  readonly outcome: 'ACCEPTED' | 'SUCCEEDED' | 'COMPENSATED';
  readonly requestId: string | null;
  /** What else there is to tell, such as the names of changed fields. Never a secret. */
  readonly details?: Readonly<Record<string, unknown>>;
}

/** The same as it was recorded. */
export interface AuditEntry extends Omit<AuditRecord, 'details' | 'outcome'> {
  readonly id: number;
  readonly at: Date;
  readonly outcome: string;
  readonly details: Readonly<Record<string, unknown>> | null;
}

export interface AuditFilter {
  readonly tenantId?: string;
  readonly actor?: string;
  readonly action?: string;
  readonly after?: Date;
  readonly before?: Date;
}

const columns = {
  id: 'id',
  at: 'at',
  actor: 'actor',
  partner: 'partner',
  ipAddress: 'ip_address',
  action: 'action',
  tenantId: 'tenant_id',
  fromStatus: 'from_status',
  toStatus: 'to_status',
  outcome: 'outcome',
  requestId: 'request_id',
  details: 'details',
} as const satisfies Record<keyof AuditEntry, string>;

/**
 * Appends to the audit log, in the transaction of the change it tells of. The commit makes it the next
 * entry of the hash chain.
 */
export async function appendAudit(trx: Control, ...records: readonly AuditRecord[]): Promise<void> {
  if (records.length === 0) return;
  await table(trx)
    .insert(
      records.map((record) => ({
        actor: record.actor,
        partner: record.partner,
        ip_address: record.ipAddress,
        action: record.action,
        tenant_id: record.tenantId,
        from_status: record.fromStatus,
        to_status: record.toStatus,
        outcome: record.outcome,
        request_id: record.requestId,
        details: record.details === undefined ? null : JSON.stringify(record.details),
      })),
    )
    .options({ name: `insert_audit_${records.length}` });
}

/** Order of the audit log: newest first. */
export const auditOrder = {
  column: 'at',
  type: 'timestamptz',
  idType: 'bigint',
  descending: true,
} as const;

/** Name of the entry that a rename of a partner leaves. */
export const renameAction = 'renamePartner';

/**
 * One page of the audit log that the scope may see, newest first. A partner sees the entries of its tenants,
 * those too that were written while it had another name; whoever takes that name later does not.
 */
export async function listAudit(
  control: Control,
  scope: Scope,
  filter: AuditFilter,
  page: PageRequest,
): Promise<Page<AuditEntry>> {
  const names = scope !== null && 'partner' in scope ? await namesOf(control, scope.partner) : [];
  const query = visibleTo(control, scope, names);
  if (filter.tenantId !== undefined) void query.where('tenant_id', filter.tenantId);
  if (filter.actor !== undefined) void query.where('actor', filter.actor);
  if (filter.action !== undefined) void query.where('action', filter.action);
  if (filter.after !== undefined) void query.where('at', '>', filter.after);
  if (filter.before !== undefined) void query.where('at', '<', filter.before);
  return readPage<AuditEntry>(query, columns, auditOrder, page);
}

/** @param names the partner's, where the scope is a partner's */
function visibleTo(control: Control, scope: Scope, names: readonly string[]): Knex.QueryBuilder {
  if (scope === null || !('partner' in scope)) return scoped(table(control), scope, 'tenant_id');
  const { partner } = scope;
  return table(control)
    .whereIn('partner', names)
    .where((own) => {
      void own
        .whereRaw(
          `EXISTS (SELECT FROM ${controlSchema}.tenants
            WHERE tenants.id = audit_log.tenant_id AND tenants.partner = ?)`,
          [partner],
        )
        .orWhere((untenanted) => {
          void untenanted.whereNull('tenant_id').where({ partner });
        });
    });
}

/** All names that a partner has had, the present one among them. */
async function namesOf(control: Control, partner: string): Promise<string[]> {
  const { rows } = (await control.raw(
    `WITH RECURSIVE names (name) AS (
       SELECT ?::text
       UNION
       SELECT entry.details ->> 'from' FROM ${controlSchema}.audit_log entry
         JOIN names ON entry.details ->> 'to' = names.name
         WHERE entry.action = '${renameAction}')
     SELECT name FROM names`,
    [partner],
  )) as { rows: { name: string }[] };
  return rows.map(({ name }) => name);
}

function table(control: Control): Knex.QueryBuilder {
  return control.withSchema(controlSchema).from('audit_log');
}
