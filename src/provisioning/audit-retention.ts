import type { Knex } from 'knex';
import { mayPruneAudit, pruneAudit } from '../control/audit-chain.ts';
import { platformPartner } from './partner-names.ts';

/**
 * Removes entries of the audit log that are older than so many days; the rest stays verifiable.
 *
 * @param actor who is recorded as having done so
 * @returns how many; null: this role may not, which is the owner's to do (`npm run prune-audit`)
 */
export async function pruneAuditLog(
  control: Knex,
  retentionDays: number,
  actor: string,
): Promise<number | null> {
  if (!(await mayPruneAudit(control))) return null;
  return pruneAudit(control, retentionDays, {
    actor,
    partner: platformPartner,
    ipAddress: null,
    action: 'pruneAudit',
    tenantId: null,
    fromStatus: null,
    toStatus: null,
    outcome: 'SUCCEEDED',
    requestId: null,
  });
}
