/**
 * `npm run -s token -- --role partner-admin [--partner acme] [--sub me] [--expires 1h]`: prints a token
 * that this installation takes. In open mode it is signed with the key in DATA_DIR; otherwise with
 * JWT_SECRET, where that is how tokens are verified.
 */
import { parseArgs } from 'node:util';
import { loadSigningKey, localClaims, localParties } from '../auth/local-tokens.ts';
import { roleNames } from '../auth/permissions.ts';
import { ConfigError, readConfig, type Config } from '../config.ts';
import { signToken, type TokenParties } from '../crypto/tokens.ts';
import { SettingError } from '../errors.ts';
import { isPermission, permissions } from '../provisioning/caller.ts';
import { isReservedPartner } from '../provisioning/partner-names.ts';

const usage = `Usage: npm run -s token -- --role ROLE [options]
  --role ROLE              ${roleNames.join(', ')}; may be given several times
  --permission PERMISSION  beyond the roles', such as tenant:connect; may be given several times
  --partner PARTNER        whose tenants; default: none, so that it is
                           sub: and the subject, or with platform-admin everybody's
  --sub SUBJECT            who it is; default: local-user
  --expires TIME           90s, 15m, 1h or 7d, at most 365d; default: 1h`;

const units: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

class UsageError extends Error {
  override readonly name = 'UsageError';
}

interface Signer extends TokenParties {
  readonly key: Uint8Array;
  readonly claims: { readonly roles: string; readonly partner: string };
}

try {
  console.log(await token());
} catch (error) {
  const isUsage = error instanceof UsageError || (error instanceof TypeError && 'code' in error);
  if (!isUsage && !(error instanceof ConfigError) && !(error instanceof SettingError)) throw error;
  console.error(isUsage ? `${error.message}\n\n${usage}` : error.message);
  process.exitCode = 1;
}

async function token(): Promise<string> {
  const { values } = parseArgs({
    options: {
      role: { type: 'string', multiple: true, default: [] },
      permission: { type: 'string', multiple: true, default: [] },
      partner: { type: 'string' },
      sub: { type: 'string', default: 'local-user' },
      expires: { type: 'string', default: '1h' },
    },
  });
  const { role: roles, permission, sub, expires } = values;
  refuseUnknown('--role', roles, (name) => roleNames.includes(name), roleNames);
  refuseUnknown('--permission', permission, isPermission, permissions);
  if (roles.length === 0 && permission.length === 0) throw new UsageError('--role is missing');
  if (sub === '' || values.partner === '') throw new UsageError('--sub and --partner are texts');
  const lifetimeSeconds = seconds(expires);
  const { partner } = values;
  if (partner !== undefined && isReservedPartner(partner)) {
    throw new UsageError('--partner must not be platform, or begin with sub:');
  }
  const { key, claims, ...parties } = await signer(readConfig());
  return signToken(
    key,
    {
      sub,
      [claims.roles]: roles,
      ...(permission.length === 0 ? {} : { permissions: permission }),
      ...(partner === undefined ? {} : { [claims.partner]: partner }),
    },
    { ...parties, lifetimeSeconds },
  );
}

async function signer({ auth, database }: Config): Promise<Signer> {
  if (auth.mode === 'open') {
    return { key: await loadSigningKey(database.dataDir), claims: localClaims, ...localParties };
  }
  const { secret, issuer, audience, rolesClaim, partnerClaim } = auth;
  if (secret === null || issuer === null || audience === null) {
    const message = 'jwt: tokens come from whoever holds the private key, not from here';
    throw new SettingError('AUTH_MODE', message);
  }
  const claims = { roles: rolesClaim, partner: partnerClaim };
  return { key: secret, claims, issuer, audience };
}

function refuseUnknown(
  option: string,
  given: readonly string[],
  isKnown: (name: string) => boolean,
  known: readonly string[],
): void {
  const unknown = given.find((name) => !isKnown(name));
  if (unknown !== undefined) throw new UsageError(`${option} is one of: ${known.join(', ')}`);
}

function seconds(text: string): number {
  const [, count = '', unit = ''] = /^([1-9][0-9]{0,7})([smhd])$/.exec(text) ?? [];
  const value = Number(count) * (units[unit] ?? 0);
  if (value > 0 && value <= 365 * 86_400) return value;
  throw new UsageError('--expires is a time such as 90s, 15m, 1h or 7d, at most 365d');
}
