import { setTimeout as sleep } from 'node:timers/promises';
import DataLoader from 'dataloader';
import { sentTogether } from '../../control/database.ts';
import { activateApiKeys } from '../../control/api-keys.ts';
import { FenceLostError } from '../../control/operations.ts';
import { provisionTenantDatabases } from '../../control/tenant-databases.ts';
import { activateTenants } from '../../control/tenants.ts';
import { PassingError } from '../../postgres/error-codes.ts';
import type { EndedOperation, OpenEnd, Step, StepContext, StepServices } from '../step.ts';
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

/** Never rejects. */
async function activateAll(contexts: readonly StepContext[]): Promise<(EndedOperation | Error)[]> {
  const [first, ...others] = contexts;
  if (first === undefined) return [];
  try {
    return await openActivation([first, ...others]).commit();
  } catch (error) {
    if (others.length === 0) return [error as Error];
    return (await Promise.all(contexts.map((context) => activateAll([context])))).flat();
  }
}

function openActivation(contexts: readonly [StepContext, ...StepContext[]]): OpenEnd {
  const ids = contexts.map(({ tenant }) => tenant.id);
  const databases = contexts.map((context) => ({
    tenantId: context.tenant.id,
    connectionStringEncrypted: sealedConnectionString(context),
    migrationVersion: context.findings.migrationVersion ?? null,
  }));
  const ending = {
    action: 'activateTenant',
    fromStatus: 'PROVISIONING',
    toStatus: 'ACTIVE',
    outcome: 'SUCCEEDED',
  } as const;
  return openEnd(contexts, ending, async (trx) => {
    const [provisioned, active] = await sentTogether([
      provisionTenantDatabases(trx, databases),
      activateTenants(trx, ids),
      activateApiKeys(trx, ids),
    ]);
    if (provisioned !== ids.length) throw new Error('a tenant database is not pending');
    return active;
  });
}
