import { sentTogether } from '../../control/database.ts';
import type { Knex } from 'knex';
import { appendAudit, type AuditRecord } from '../../control/audit.ts';
import { endOperations } from '../../control/operations.ts';
import type { Tenant } from '../../control/tenants.ts';
import type { EndedOperation, OpenEnd, StepContext } from '../step.ts';

/** How an operation ends. */
interface Ending {
  readonly outcome: 'SUCCEEDED' | 'COMPENSATED';
  /** What its audit row says; null: what it changed was recorded in an earlier transaction. */
  readonly audit: Pick<AuditRecord, 'action' | 'fromStatus' | 'toStatus'> | null;
}

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
  const end = openEnd([context], ending, async (trx) => [await change(trx)]);
  const [ended] = await end.commit();
  if (ended !== undefined) context.findings.ended = ended;
}

/**
 * Begins that transaction at once, for whoever commits it later: all is done but the audit rows, under
 * whose lock nobody should wait for anything. To be committed or abandoned soon: it holds the
 * operations' rows, and the server ends it after some seconds of silence, so that an instance that
 * stalls keeps nobody from taking over.
 *
 * @param contexts operations that end in the same way: all of them, or none
 * @param change answers with their tenants, in the order of the operations
 */
export function openEnd(
  contexts: readonly [StepContext, ...StepContext[]],
  ending: Ending,
  change: (trx: Knex.Transaction) => Promise<readonly Tenant[]>,
): OpenEnd {
  const [{ services }] = contexts;

  async function begin(): Promise<{ trx: Knex.Transaction; ended: EndedOperation[] }> {
    const trx = await services.control.transaction();
    try {
      // Sent in this order without waiting for one another: the first that fails undoes them all.
      const [, operations, tenants] = await sentTogether([
        trx.raw("SET LOCAL idle_in_transaction_session_timeout = '5s'"),
        endOperations(
          trx,
          contexts.map(({ hold }) => hold),
          ending.outcome,
        ),
        change(trx),
        services.queue.complete(
          trx,
          contexts.map(({ operation }) => operation.id),
        ),
      ]);
      const ended = operations.flatMap((operation, place) => {
        const tenant = tenants[place];
        return tenant === undefined ? [] : [{ operation, tenant }];
      });
      return { trx, ended };
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
        await appendAudit(
          trx,
          ...contexts.flatMap(({ operation, tenant }): AuditRecord[] =>
            ending.audit === null
              ? []
              : [
                  {
                    ...ending.audit,
                    outcome: ending.outcome,
                    actor: operation.actor,
                    partner: operation.partner,
                    ipAddress: null,
                    tenantId: tenant.id,
                    requestId: operation.requestId,
                  },
                ],
          ),
        );
        for (const _one of contexts) await services.failpoints.reach('commit:before');
        await trx.commit();
        // What knex' `commit` itself does not tell: that it failed (knex/knex#6141).
        await trx.executionPromise;
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
