import { deleteApiKeys } from '../../control/api-keys.ts';
import { releaseIdempotencyKeys } from '../../control/idempotency.ts';
import { releaseTenantDatabase } from '../../control/tenant-databases.ts';
import { releaseTenant } from '../../control/tenants.ts';
import type { Step } from '../step.ts';
import { endWith } from './end-with.ts';

/**
 * Done by the transaction that accepted the operation (`reserve.ts`). Its undo, last of all, frees
 * the names and ends the operation: everything made under these names is known to be gone by then.
 */
export const reserve: Step = {
  name: 'reserve',

  async compensate(context) {
    const { operation, tenant } = context;
    const end = {
      outcome: 'COMPENSATED',
      audit: { action: 'releaseTenant', fromStatus: 'PROVISIONING', toStatus: 'FAILED' },
    } as const;
    await endWith(context, end, async (trx) => {
      await releaseTenantDatabase(trx, tenant.id);
      await deleteApiKeys(trx, tenant.id);
      await releaseIdempotencyKeys(trx, operation.id);
      return releaseTenant(trx, tenant.id);
    });
  },
};
