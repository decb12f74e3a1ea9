import type { TenantStatus } from '../control/tenants.ts';

/** Which status may follow which: the one table of a tenant's life. */
const transitions: Readonly<Record<TenantStatus, readonly TenantStatus[]>> = {
  SCHEDULED: ['PROVISIONING', 'FAILED'],
  PROVISIONING: ['ACTIVE', 'FAILED'],
  ACTIVE: ['SUSPENDED', 'DELETED'],
  SUSPENDED: ['ACTIVE', 'DELETED'],
  DELETED: ['ACTIVE', 'SUSPENDED', 'PURGED'],
  PURGED: [],
  FAILED: [],
};

/** Whether a tenant may go from one status to another. */
export function mayBecome(from: TenantStatus, to: TenantStatus): boolean {
  return transitions[from].includes(to);
}
