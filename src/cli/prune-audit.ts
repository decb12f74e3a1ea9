/**
 * `npm run -s prune-audit` removes what is older than AUDIT_RETENTION_DAYS from the audit log. A
 * gateway does so by itself, unless it runs as a role that may not.
 */
import { SettingError } from '../errors.ts';
import { pruneAuditLog } from '../provisioning/audit-retention.ts';
import { withControl } from './with-control.ts';

await withControl('prune-audit', async ({ control, config }) => {
  const days = config.audit.retentionDays;
  if (days === 0) {
    console.log('AUDIT_RETENTION_DAYS is 0: everything is kept.');
    return;
  }
  const pruned = await pruneAuditLog(control, days, 'prune-audit');
  if (pruned === null) {
    throw new SettingError('DATABASE_URL', 'this role may not prune the audit log; its owner may');
  }
  console.log(`${pruned} entries were older than ${days} days and are removed.`);
});
