import { SignJWT } from 'jose';
import type { World } from './harness.ts';

/** Tokens of an issuer whose secret the gateways of these settings know. */
export const tokenSettings = {
  AUTH_MODE: 'jwt',
  JWT_SECRET: 'a secret that is long enough for HS256',
  JWT_ISSUER: 'https://issuer.test',
  JWT_AUDIENCE: 'tenantry',
} as const;

const secret = new TextEncoder().encode(tokenSettings.JWT_SECRET);

/** A token of that issuer; `claims` may replace any of the usual ones, undefined leaves one out. */
async function makeToken(claims: Readonly<Record<string, unknown>> = {}): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  return new SignJWT({
    iss: tokenSettings.JWT_ISSUER,
    aud: tokenSettings.JWT_AUDIENCE,
    sub: 'somebody',
    iat: now,
    exp: now + 600,
    ...claims,
  })
    .setProtectedHeader({ alg: 'HS256' })
    .sign(secret);
}

/** The header that presents such a token. */
export async function bearer(
  claims: Readonly<Record<string, unknown>> = {},
): Promise<{ Authorization: string }> {
  return { Authorization: `Bearer ${await makeToken(claims)}` };
}

/** Starts a gateway that takes these tokens. */
export function startWithTokens(world: World, settings: Readonly<Record<string, string>> = {}) {
  return world.start({ settings: { ...tokenSettings, ...settings } });
}
