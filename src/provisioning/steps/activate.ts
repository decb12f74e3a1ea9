import { activateApiKeys } from '../../control/api-keys.ts';
import { appendAudit } from '../../control/audit.ts';
import { endOperation } from '../../control/operations.ts';
import { provisionTenantDatabase } from '../../control/tenant-databases.ts';
import { activateTenant } from '../../control/tenants.ts';
import type { Step } from '../step.ts';

/** One control-plane transaction: from here on the tenant exists, and its operation has ended. */
export const activate: Step = {
  name: 'activate',

  async run({ findings, hold, operation, services, tenant }) {
    const { connectionStringEncrypted, migrationVersion } = findings;
    if (connectionStringEncrypted === undefined)
      throw new Error('activate before encrypt_credentials');
    await services.control.transaction(async (trx) => {
      // First the fence: an operation that was taken over changes nothing.
      await endOperation(trx, hold, 'SUCCEEDED');
      const provisioned = await provisionTenantDatabase(trx, tenant.id, {
        connectionStringEncrypted,
        migrationVersion: migrationVersion ?? null,
      });
      if (!provisioned) throw new Error('the tenant database is not pending');
      if (!(await activateTenant(trx, tenant.id)))
        throw new Error('the tenant is not provisioning');
      await activateApiKeys(trx, tenant.id);
      await services.queue.complete(trx, operation.id);
      await appendAudit(trx, {
        actor: operation.actor,
        partner: operation.partner,
        ipAddress: null,
        action: 'activateTenant',
        tenantId: tenant.id,
        fromStatus: 'PROVISIONING',
        toStatus: 'ACTIVE',
        outcome: 'SUCCEEDED',
        requestId: operation.requestId,
      });
    });
  },
};
