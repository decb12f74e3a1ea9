import { setTimeout as sleep } from 'node:timers/promises';
import DataLoader from 'dataloader';
import type { Knex } from 'knex';
import { sentTogether } from '../../control/database.ts';
import { activateApiKeys } from '../../control/api-keys.ts';
import { FenceLostError } from '../../control/operations.ts';
import { provisionTenantDatabases } from '../../control/tenant-databases.ts';
import { activateTenants } from '../../control/tenants.ts';
import { PassingError } from '../../postgres/error-codes.ts';
import type {
  BegunItems,
  EndedOperation,
  OpenEnd,
  Step,
  StepContext,
  StepServices,
} from '../step.ts';
import { sealedConnectionString } from './encrypt-credentials.ts';
import { openEnd } from './end-with.ts';

/** One control-plane transaction: from here on the tenant exists, and its operation has ended. */
export const activate: Step = {
  name: 'activate',

  async run(context) {
    const { findings, operation, services } = context;
    if (operation.batchId !== null) {
      findings.ended = await services.activateTogether(context);
      return;
    }
    const ahead = findings.activation;
    delete findings.activation; // one that fails is made anew
    try {
      const [ended] = await (ahead ?? openActivation([context])).commit();
      if (ended !== undefined) findings.ended = ended;
    } catch (error) {
      if (ahead === undefined || error instanceof FenceLostError) throw error;
      throw new PassingError('the transaction that was begun ahead did not last', { cause: error });
    }
  },
};

/**
 * Begins the transaction of `activate` while the tenant's login is verified. Not in a batch, where
 * nobody waits for one of many.
 */
export async function activateAhead(context: StepContext): Promise<void> {
  const { findings, operation } = context;
  if (operation.batchId !== null) return;
  await findings.activation?.abandon(); // of an earlier try
  findings.activation = openActivation([context]);
}

// As long as a lot waits for others: a fraction of what it takes to make one tenant.
const lotMs = 20;

/**
 * Commits the tenants of batches in lots: those that become ready within some milliseconds, or while the
 * last lot is under way. A transaction costs the machine more than what is in it. Where one of a lot
 * cannot be activated, each of them is by itself.
 *
 * @param most a lot of so many waits for no more: they are all that are made at once
 */
export function createJointActivation(most: number): StepServices['activateTogether'] {
  let last: Promise<unknown> = Promise.resolve();
  let next = emptyLot();
  const lots = new DataLoader<StepContext, EndedOperation>(
    (contexts) => {
      const lot = activateAll(contexts);
      last = lot;
      return lot;
    },
    {
      cache: false,
      batchScheduleFn: (dispatch) => {
        const enough = Promise.race([next.full.promise, sleep(lotMs)]);
        void Promise.all([last, enough]).then(() => {
          next = emptyLot();
          dispatch();
        });
      },
    },
  );
  return (context) => {
    const activated = lots.load(context);
    next.size += 1;
    if (next.size >= most) next.full.resolve(undefined);
    return activated;
  };
}

function emptyLot(): { size: number; readonly full: PromiseWithResolvers<undefined> } {
  return { size: 0, full: Promise.withResolvers() };
}

/** Never rejects. The next items of batches begin where all of these have ended, in one commit with that. */
async function activateAll(contexts: readonly StepContext[]): Promise<(EndedOperation | Error)[]> {
  const [first, ...others] = contexts;
  if (first === undefined) return [];
  const nextItems = contexts.find((context) => context.nextItems !== null)?.nextItems;
  let begun: BegunItems | undefined;
  try {
    const end = openActivation([first, ...others], async (trx) => {
      const ids = contexts.map(({ operation }) => operation.id);
      begun = await nextItems?.beginIn(trx, ids);
    });
    const ended = await end.commit();
    await begun?.start();
    return ended;
  } catch {
    begun?.abandon();
    return Promise.all(contexts.map(activateAlone));
  }
}

/** Never rejects. */
async function activateAlone(context: StepContext): Promise<EndedOperation | Error> {
  try {
    const [ended] = await openActivation([context]).commit();
    return ended ?? new Error('an ended operation lacks its tenant');
  } catch (error) {
    return error as Error;
  }
}

/**
 * Records first what no time hangs on. The tenants are activated with the end of their operations, right
 * before the commit.
 *
 * @param beside what else its transaction does, once the operations have ended in it
 */
function openActivation(
  contexts: readonly [StepContext, ...StepContext[]],
  beside: (trx: Knex.Transaction) => Promise<void> = () => Promise.resolve(),
): OpenEnd {
  const ids = contexts.map(({ tenant }) => tenant.id);
  const databases = contexts.map((context) => ({
    tenantId: context.tenant.id,
    connectionStringEncrypted: sealedConnectionString(context),
    migrationVersion: context.findings.migrationVersion ?? null,
  }));
  const ending = {
    outcome: 'SUCCEEDED',
    audit: { action: 'activateTenant', fromStatus: 'PROVISIONING', toStatus: 'ACTIVE' },
  } as const;
  return openEnd(contexts, ending, {
    async first(trx) {
      const [provisioned] = await sentTogether([
        provisionTenantDatabases(trx, databases),
        activateApiKeys(trx, ids),
      ]);
      if (provisioned !== ids.length) throw new Error('a tenant database is not pending');
    },
    async last(trx) {
      const [active] = await sentTogether([activateTenants(trx, ids), beside(trx)]);
      return active;
    },
  });
}
