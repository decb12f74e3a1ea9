import type { Knex } from 'knex';
import { findUsableApiKeys, noteApiKeyUse } from '../control/api-keys.ts';
import { parseApiKey, sameHash } from '../crypto/api-keys.ts';
import { Refusal } from '../errors.ts';
import type { Caller } from '../provisioning/caller.ts';
import { tenantKeyPermissions } from './permissions.ts';
import type { Credentials, Recogniser } from './recognition.ts';

export interface ApiKeyOptions {
  readonly control: Knex;
  /** What every key begins with (`API_KEY_PREFIX`). */
  readonly prefix: string;
}

/** Recognises a tenant by its API key. A typo is found by the checksum, without a query. */
export function createApiKeyRecogniser({ control, prefix }: ApiKeyOptions): Recogniser {
  return async (credentials) => {
    const text = keyIn(credentials, prefix);
    if (text === null) return null;
    const presented = parseApiKey(text, prefix);
    const candidates = presented === null ? [] : await findUsableApiKeys(control, presented.lookup);
    // The first characters find it, the hash of all of them proves it.
    const key = candidates.find(({ hash }) => presented !== null && sameHash(hash, presented.hash));
    if (key === undefined) throw new Refusal('UNAUTHENTICATED', 'The API key is not valid');
    if (key.useIsDue) await noteApiKeyUse(control, key);
    return {
      kind: 'TENANT',
      subject: key.tenantId,
      partner: key.partner,
      scope: { tenantId: key.tenantId },
      roles: [],
      permissions: new Set(tenantKeyPermissions),
      credential: { kind: 'apiKey', id: key.id },
    } satisfies Caller;
  };
}

function keyIn({ authorization, apiKey }: Credentials, prefix: string): string | null {
  if (apiKey !== null) return apiKey;
  const [, text] = /^Bearer +(\S+)$/i.exec(authorization ?? '') ?? [];
  return text?.startsWith(prefix) === true ? text : null;
}
