import { controlSchema, type Control } from './database.ts';
import type { TenantStatus } from './tenants.ts';

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
}

/** Appends to the audit log, in the transaction of the change it tells of. */
export async function appendAudit(trx: Control, record: AuditRecord): Promise<void> {
  await trx
    .withSchema(controlSchema)
    .from('audit_log')
    .insert({
      actor: record.actor,
      partner: record.partner,
      ip_address: record.ipAddress,
      action: record.action,
      tenant_id: record.tenantId,
      from_status: record.fromStatus,
      to_status: record.toStatus,
      outcome: record.outcome,
      request_id: record.requestId,
    })
    .options({ name: 'insert_audit' });
}
