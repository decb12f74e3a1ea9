import { releaseIdempotencyKeys } from '../../control/idempotency.ts';
import type { Step } from '../step.ts';
import { endWith } from './end-with.ts';

/**
 * Done by the transaction that accepted a change of a tenant that exists (`lifecycle.ts`). Its undo,
 * last of all, ends the operation; the tenant is as it was.
 */
export const acceptance: Step = {
  name: 'reserve',

  async compensate(context) {
    const { operation, tenant } = context;
    const end = {
      action: `undo ${operation.kind}`,
      fromStatus: tenant.status,
      toStatus: tenant.status,
      outcome: 'COMPENSATED',
    } as const;
    await endWith(context, end, async (trx) => {
      await releaseIdempotencyKeys(trx, operation.id);
      return tenant;
    });
  },
};
