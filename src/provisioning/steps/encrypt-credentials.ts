import type { Step, StepContext } from '../step.ts';
import { connectionStringOf } from '../tenant-login.ts';

/** What a sealed connection string is for: part of what it is bound to. */
export const connectionStringPurpose = 'connection-string';

/** Seals the connection string, bound to the tenant. */
export const encryptCredentials: Step = {
  name: 'encrypt_credentials',

  run(context) {
    sealedConnectionString(context);
    return Promise.resolve();
  },
};

/** The connection string as it will be stored, sealed once in a run. */
export function sealedConnectionString(context: StepContext): string {
  const { findings, services, tenant } = context;
  findings.connectionStringEncrypted ??= services.keyRing.seal(
    connectionStringOf(context),
    connectionStringPurpose,
    tenant.id,
  );
  return findings.connectionStringEncrypted;
}
