import { sentTogether } from '../../control/database.ts';
import type { Knex } from 'knex';
import { appendAudit, type AuditRecord } from '../../control/audit.ts';
import { endOperation } from '../../control/operations.ts';
import type { Tenant } from '../../control/tenants.ts';
import type { EndedOperation, OpenEnd, StepContext } from '../step.ts';

/** How an operation ends, and what its audit row says of it. */
export type Ending = Pick<AuditRecord, 'action' | 'fromStatus' | 'toStatus'> & {
  readonly outcome: 'SUCCEEDED' | 'COMPENSATED';
};

/**
 * Ends an operation in ONE control-plane transaction with what its end changes: the fence first, so
 * that an operation that was taken over changes nothing; its job and its audit row last.
 *
 * @param change makes the changes, and returns the tenant as they leave it
 */
export async function endWith(
  context: StepContext,
  ending: Ending,
  change: (trx: Knex.Transaction) => Promise<Tenant>,
): Promise<void> {
  context.findings.ended = await openEnd(context, ending, change).commit();
}

/**
 * Begins that transaction at once, for whoever commits it later: all is done but the audit row, under
 * whose lock nobody should wait for anything. To be committed or abandoned soon: it holds the
 * operation's row, and the server ends it after some seconds of silence, so that an instance that
 * stalls keeps nobody from taking over.
 */
export function openEnd(
  { hold, operation, services, tenant }: StepContext,
  ending: Ending,
  change: (trx: Knex.Transaction) => Promise<Tenant>,
): OpenEnd {
  async function begin(): Promise<{ trx: Knex.Transaction; ended: EndedOperation }> {
    const trx = await services.control.transaction();
    try {
      // Sent in this order without waiting for one another: the first that fails undoes them all.
      const [, ended, left] = await sentTogether([
        trx.raw("SET LOCAL idle_in_transaction_session_timeout = '5s'"),
        endOperation(trx, hold, ending.outcome),
        change(trx),
        services.queue.complete(trx, operation.id),
      ]);
      return { trx, ended: { operation: ended, tenant: left } };
    } catch (error) {
      await abandoned(trx);
      throw error;
    }
  }

  const begun = begin();
  begun.catch(() => undefined); // told to whoever commits
  return {
    async commit() {
      const { trx, ended } = await begun;
      try {
        await appendAudit(trx, {
          ...ending,
          actor: operation.actor,
          partner: operation.partner,
          ipAddress: null,
          tenantId: tenant.id,
          requestId: operation.requestId,
        });
        await services.failpoints.reach('commit:before');
        await trx.commit();
        return ended;
      } catch (error) {
        await abandoned(trx);
        throw error;
      }
    },

    async abandon() {
      await begun.then(
        ({ trx }) => abandoned(trx),
        () => undefined,
      );
    },
  };
}

async function abandoned(trx: Knex.Transaction): Promise<void> {
  // Of a connection that is gone there is nothing to roll back.
  if (!trx.isCompleted()) await trx.rollback().catch(() => undefined);
}
