import { sentTogether } from '../../control/database.ts';
import { activateApiKeys } from '../../control/api-keys.ts';
import { FenceLostError } from '../../control/operations.ts';
import { provisionTenantDatabase } from '../../control/tenant-databases.ts';
import { activateTenant } from '../../control/tenants.ts';
import { PassingError } from '../../postgres/error-codes.ts';
import type { OpenEnd, Step, StepContext } from '../step.ts';
import { sealedConnectionString } from './encrypt-credentials.ts';
import { openEnd } from './end-with.ts';

/** One control-plane transaction: from here on the tenant exists, and its operation has ended. */
export const activate: Step = {
  name: 'activate',

  async run(context) {
    const { findings } = context;
    const ahead = findings.activation;
    delete findings.activation; // one that fails is made anew
    try {
      findings.ended = await (ahead ?? openActivation(context)).commit();
    } catch (error) {
      if (ahead === undefined || error instanceof FenceLostError) throw error;
      throw new PassingError('the transaction that was begun ahead did not last', { cause: error });
    }
  },
};

/** Begins the transaction of `activate` while the tenant's login is verified. */
export async function activateAhead(context: StepContext): Promise<void> {
  const { findings } = context;
  await findings.activation?.abandon(); // of an earlier try
  findings.activation = openActivation(context);
}

function openActivation(context: StepContext): OpenEnd {
  const { findings, tenant } = context;
  const { migrationVersion = null } = findings;
  const connectionStringEncrypted = sealedConnectionString(context);
  const ending = {
    action: 'activateTenant',
    fromStatus: 'PROVISIONING',
    toStatus: 'ACTIVE',
    outcome: 'SUCCEEDED',
  } as const;
  return openEnd(context, ending, async (trx) => {
    const [provisioned, active] = await sentTogether([
      provisionTenantDatabase(trx, tenant.id, { connectionStringEncrypted, migrationVersion }),
      activateTenant(trx, tenant.id),
      activateApiKeys(trx, tenant.id),
    ]);
    if (!provisioned) throw new Error('the tenant database is not pending');
    return active;
  });
}
