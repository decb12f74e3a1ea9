import {
  credentialName,
  looksLikeCredential,
  type CredentialName,
} from '../auth/credential-names.ts';
import type { Presented } from '../auth/recognition.ts';
import { Refusal } from '../errors.ts';

/**
 * Finds the credentials of a WebSocket connection: in the payload of `connection_init`, on its top level or
 * under `headers`, and in the headers of the upgrade, which clients that are no browsers can send.
 *
 * Credentials that are presented are never ignored, in open mode above all: a caller that misspells a name
 * would be the local operator, with every right.
 *
 * @throws Refusal UNAUTHENTICATED for a value that is no text, a name that is not one of ours, and two
 * values of a kind that differ
 */
export function readConnectionCredentials(
  parameters: Readonly<Record<string, unknown>>,
  upgrade: Presented,
): Presented {
  const found = new Map<CredentialName, string>();
  if (upgrade.authorization !== null) found.set('authorization', upgrade.authorization);
  if (upgrade.apiKey !== null) found.set('x-api-key', upgrade.apiKey);
  collect(parameters, found, '');
  for (const [name, value] of Object.entries(parameters)) {
    if (name.toLowerCase() !== 'headers') continue;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new Refusal('UNAUTHENTICATED', 'headers must be an object');
    }
    collect(value as Record<string, unknown>, found, 'headers.');
  }
  return {
    authorization: found.get('authorization') ?? null,
    apiKey: found.get('x-api-key') ?? null,
    ipAddress: upgrade.ipAddress,
  };
}

function collect(
  values: Readonly<Record<string, unknown>>,
  found: Map<CredentialName, string>,
  path: string,
): void {
  for (const [name, value] of Object.entries(values)) {
    const kind = credentialName(name);
    if (kind === null) {
      if (!looksLikeCredential(name)) continue;
      const message = 'Credentials are taken as authorization or x-api-key, under no other name';
      throw new Refusal('UNAUTHENTICATED', message);
    }
    if (typeof value !== 'string') {
      throw new Refusal('UNAUTHENTICATED', `${path}${kind} must be a text`);
    }
    if ((found.get(kind) ?? value) !== value) {
      throw new Refusal('UNAUTHENTICATED', `Two values of ${kind} differ`);
    }
    found.set(kind, value);
  }
}
