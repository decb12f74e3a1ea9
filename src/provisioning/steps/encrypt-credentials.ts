import type { Step } from '../step.ts';
import { connectionStringOf } from './verify-connection.ts';

/** What a sealed connection string is for: part of what it is bound to. */
export const connectionStringPurpose = 'connection-string';

/** Seals the connection string, bound to the tenant. */
export const encryptCredentials: Step = {
  name: 'encrypt_credentials',

  run(context) {
    context.findings.connectionStringEncrypted = context.services.keyRing.seal(
      connectionStringOf(context),
      connectionStringPurpose,
      context.tenant.id,
    );
    return Promise.resolve();
  },
};
