import type { Caller } from '../provisioning/caller.ts';
import { permissionsOf } from './permissions.ts';
import type { Recogniser } from './recognition.ts';

const roles = ['platform-admin'] as const;

const operator: Caller = {
  kind: 'OPERATOR',
  subject: 'local-operator',
  partner: null,
  scope: null,
  roles,
  permissions: permissionsOf(roles),
  credential: { kind: 'none' },
};

/**
 * Open mode: whoever comes without credentials from the same machine runs the place. Credentials that
 * are presented are never ignored.
 */
export const recogniseLocalOperator: Recogniser = ({ authorization, apiKey }) =>
  authorization === null && apiKey === null ? operator : null;
