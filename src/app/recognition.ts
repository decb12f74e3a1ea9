// Who is let in, by the settings.
import type { Knex } from 'knex';
import { createApiKeyRecogniser } from '../auth/api-key.ts';
import { limitFailures } from '../auth/failed-credentials.ts';
import { recogniseLocalOperator } from '../auth/local-operator.ts';
import { createLocalTokenRecogniser } from '../auth/local-tokens.ts';
import { createRecognition, type Recognition, type Recogniser } from '../auth/recognition.ts';
import { createTokenRecogniser } from '../auth/token.ts';
import type { Config } from '../config.ts';
import { createRateLimit } from '../control/rate-limits.ts';
import { createTokenVerifier, type TokenKeys } from '../crypto/tokens.ts';

/** Builds what recognises callers: API keys, tokens and, in open mode, whoever is on this machine. */
export function openRecognition(
  { auth, database, provisioning }: Config,
  control: Knex,
): Recognition {
  const open = auth.mode === 'open';
  const keys = tokenKeys(auth);
  const recognise = createRecognition([
    createApiKeyRecogniser({ control, prefix: provisioning.apiKeyPrefix }),
    ...(open ? [createLocalTokenRecogniser(database.dataDir)] : []),
    ...(keys === null ? [] : [tokenRecogniser(auth, keys)]),
    ...(open ? [recogniseLocalOperator] : []),
  ]);
  const limit = createRateLimit(control, 'failed-credentials', auth.failuresPerMinute);
  return limit === null ? recognise : limitFailures(recognise, limit);
}

function tokenRecogniser(auth: Config['auth'], keys: TokenKeys): Recogniser {
  const { rolesClaim, partnerClaim } = auth;
  // Both are there: config.ts has seen to it.
  const parties = { issuer: auth.issuer ?? '', audience: auth.audience ?? '' };
  const verify = createTokenVerifier({ ...keys, ...parties });
  return createTokenRecogniser({ verify, rolesClaim, partnerClaim });
}

function tokenKeys({ jwksUrl, publicKey, secret }: Config['auth']): TokenKeys | null {
  if (jwksUrl !== null) return { jwksUrl };
  if (publicKey !== null) return { publicKey };
  return secret === null ? null : { secret };
}
