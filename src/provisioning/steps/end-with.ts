import { sentTogether } from '../../control/database.ts';
import type { Knex } from 'knex';
import { appendAudit, type AuditRecord } from '../../control/audit.ts';
import { endOperations, lockHeldOperations } from '../../control/operations.ts';
import type { Tenant } from '../../control/tenants.ts';
import type { OpenEnd, StepContext } from '../step.ts';

/** How an operation ends. */
interface Ending {
  readonly outcome: 'SUCCEEDED' | 'COMPENSATED';
  /** What its audit row says; null: what it changed was recorded in an earlier transaction. */
  readonly audit: Pick<AuditRecord, 'action' | 'fromStatus' | 'toStatus'> | null;
}

/** Changes that the end of operations makes beside their own rows. */
export interface EndChanges<T> {
  /** Runs when the transaction begins, which may be seconds before its commit. */
  readonly first: (trx: Knex.Transaction) => Promise<T>;
  /** Runs right before the commit, for what records its time; returns the tenants as they are left, in the order of the operations. */
  readonly last: (trx: Knex.Transaction, made: T) => Promise<readonly Tenant[]>;
}

/**
 * Ends an operation in ONE control-plane transaction with what its end changes: its row is locked first, so
 * that an operation that was taken over changes nothing; its end and its audit row come last.
 *
 * @param change makes the changes, and returns the tenant as they leave it
 */
export async function endWith(
  context: StepContext,
  ending: Ending,
  change: (trx: Knex.Transaction) => Promise<Tenant>,
): Promise<void> {
  const end = openEnd([context], ending, {
    first: change,
    last: (_trx, tenant) => Promise.resolve([tenant]),
  });
  const [ended] = await end.commit();
  if (ended !== undefined) context.findings.ended = ended;
}

/**
 * Begins that transaction at once, for a caller that commits it later: all is done but the end itself, whose
 * time has to be that of the commit, and the audit rows. To be committed or abandoned soon: it holds the
 * operations' rows, and the server ends it after some seconds of silence, so that an instance that
 * stalls keeps no other from taking over.
 *
 * @param contexts operations that end in the same way: all of them, or none
 */
export function openEnd<T>(
  contexts: readonly [StepContext, ...StepContext[]],
  ending: Ending,
  changes: EndChanges<T>,
): OpenEnd {
  const [{ services }] = contexts;
  const holds = contexts.map(({ hold }) => hold);

  async function begin(): Promise<{ trx: Knex.Transaction; made: T }> {
    const trx = await services.control.transaction();
    try {
      // Sent in this order without waiting for one another: the first that fails undoes them all.
      const [, , made] = await sentTogether([
        trx.raw("SET LOCAL idle_in_transaction_session_timeout = '5s'"),
        lockHeldOperations(trx, holds, ending.outcome),
        changes.first(trx),
        services.queue.complete(
          trx,
          contexts.map(({ operation }) => operation.id),
        ),
      ]);
      return { trx, made };
    } catch (error) {
      await abandoned(trx);
      throw error;
    }
  }

  const begun = begin();
  begun.catch(() => undefined); // told to whoever commits
  return {
    async commit() {
      const { trx, made } = await begun;
      try {
        const [operations, tenants] = await sentTogether([
          endOperations(trx, holds, ending.outcome),
          changes.last(trx, made),
          appendAudit(trx, ...auditOf(contexts, ending)),
        ]);
        for (const _one of contexts) await services.failpoints.reach('commit:before');
        await trx.commit();
        // What knex' `commit` itself does not tell: that it failed (knex/knex#6141).
        await trx.executionPromise;
        return operations.flatMap((operation, place) => {
          const tenant = tenants[place];
          return tenant === undefined ? [] : [{ operation, tenant }];
        });
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

function auditOf(contexts: readonly StepContext[], { audit, outcome }: Ending): AuditRecord[] {
  if (audit === null) return [];
  return contexts.map(({ operation, tenant }) => ({
    ...audit,
    outcome,
    actor: operation.actor,
    partner: operation.partner,
    ipAddress: null,
    tenantId: tenant.id,
    requestId: operation.requestId,
  }));
}
