import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { loadOrMakeKey } from '../crypto/key-file.ts';
import { createTokenVerifier, type TokenParties, type VerifyToken } from '../crypto/tokens.ts';
import { createTokenRecogniser } from './token.ts';
import type { Recogniser } from './recognition.ts';

/** Who signs and takes the tokens of `npm run -s token`, in open mode. */
export const localParties: TokenParties = { issuer: 'tenantry-local', audience: 'tenantry-local' };

/** The names that the claims of local tokens have. */
export const localClaims = { roles: 'roles', partner: 'partner' } as const;

/**
 * The key in DATA_DIR that local tokens are signed with, made when there is none (mode 0600).
 *
 * @throws SettingError naming DATA_DIR when it cannot be read or made
 */
export async function loadSigningKey(dataDir: string): Promise<Uint8Array> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  return Buffer.from(await loadOrMakeKey(join(dataDir, 'signing.key')), 'base64url');
}

/** Recognises local tokens. The key is read when the first one comes: it may be made after the start. */
export function createLocalTokenRecogniser(dataDir: string): Recogniser {
  let verifier: Promise<VerifyToken> | null = null;
  const load = async (): Promise<VerifyToken> =>
    createTokenVerifier({ secret: await loadSigningKey(dataDir), ...localParties });
  return createTokenRecogniser({
    verify: async (token) => {
      verifier ??= load().catch((error: unknown) => {
        verifier = null; // tried again: the folder may be mended meanwhile
        throw error;
      });
      return (await verifier)(token);
    },
    rolesClaim: localClaims.roles,
    partnerClaim: localClaims.partner,
    onlyFrom: localParties.issuer,
  });
}
