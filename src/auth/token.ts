import {
  claimedIssuer,
  TokenError,
  type VerifiedToken,
  type VerifyToken,
} from '../crypto/tokens.ts';
import { Refusal } from '../errors.ts';
import { isPermission, type Caller } from '../provisioning/caller.ts';
import {
  isReservedPartner,
  maxNameLength,
  partnerOfSubject,
  platformPartner,
} from '../provisioning/partner-names.ts';
import { permissionsOf, seesEverything } from './permissions.ts';
import type { Credentials, Recogniser } from './recognition.ts';

export interface TokenOptions {
  readonly verify: VerifyToken;
  /** Claim with the roles; a path with dots where there is no claim of the whole name. */
  readonly rolesClaim: string;
  /** Claim with the partner's id, likewise. */
  readonly partnerClaim: string;
  /** Take tokens of this issuer alone; the others are somebody else's to prove. */
  readonly onlyFrom?: string;
}

const bearerForm = /^Bearer +([\w-]+\.[\w-]*\.[\w-]*)$/i;

/** Recognises the bearer of a JWT. */
export function createTokenRecogniser(options: TokenOptions): Recogniser {
  return async (credentials) => {
    const token = tokenIn(credentials);
    if (token === null) return null;
    if (options.onlyFrom !== undefined && claimedIssuer(token) !== options.onlyFrom) return null;
    try {
      return toCaller(await options.verify(token), options);
    } catch (error) {
      if (!(error instanceof TokenError)) throw error;
      const { code, message } = error;
      throw new Refusal(code === 'INVALID' ? 'UNAUTHENTICATED' : 'UNAVAILABLE', message);
    }
  };
}

function tokenIn({ authorization }: Credentials): string | null {
  return bearerForm.exec(authorization ?? '')?.[1] ?? null;
}

/**
 * What claims make of their bearer. Whoever is no platform administrator sees one partner's tenants:
 * that of the claim, or, without one, a partner that is this subject alone. Never everybody's, because
 * an identity provider forgot a claim.
 */
function toCaller({ subject, claims, expiresAt }: VerifiedToken, options: TokenOptions): Caller {
  if (subject.length > maxNameLength || !isStorable(subject)) {
    throw refused('sub', `a text of at most ${maxNameLength} characters`);
  }
  const roles = words(options.rolesClaim, claimOf(claims, options.rolesClaim));
  const granted = words('permissions', claims['permissions']).filter(isPermission);
  const claimed = partnerOf(options.partnerClaim, claimOf(claims, options.partnerClaim));
  const everywhere = seesEverything(roles);
  const partner = claimed ?? (everywhere ? null : partnerOfSubject(subject));
  return {
    kind: 'USER',
    subject,
    partner,
    scope: everywhere || partner === null ? null : { partner },
    roles,
    permissions: new Set([...permissionsOf(roles), ...granted]),
    credential: { kind: 'token', expiresAt },
  };
}

/** A claim by its whole name (`https://example.com/roles`), else by a path (`realm_access.roles`). */
function claimOf(claims: Readonly<Record<string, unknown>>, name: string): unknown {
  if (Object.hasOwn(claims, name)) return claims[name];
  let value: unknown = claims;
  for (const part of name.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part))
      return undefined;
    value = (value as Record<string, unknown>)[part];
  }
  return value;
}

/** A list of texts, or one text of words between spaces or commas. */
function words(name: string, value: unknown): string[] {
  if (value === undefined || value === null) return [];
  const list: unknown = typeof value === 'string' ? value.split(/[\s,]+/) : value;
  if (!Array.isArray(list) || !list.every((item) => typeof item === 'string')) {
    throw refused(name, 'a text or a list of texts');
  }
  return [...new Set(list)].filter((item) => item !== '');
}

function partnerOf(name: string, value: unknown): string | null {
  if (value === undefined || value === null) return null;
  if (typeof value === 'string' && value !== '' && value.length <= maxNameLength) {
    if (isReservedPartner(value)) {
      throw refused(name, `no reserved name: ${platformPartner}, or one that begins with sub:`);
    }
    if (isStorable(value)) return value;
  }
  throw refused(name, `a text of 1 to ${maxNameLength} characters`);
}

/** What PostgreSQL takes as a text, and gives back as it was. */
function isStorable(text: string): boolean {
  return !text.includes('\0') && text.isWellFormed();
}

function refused(claim: string, rule: string): Refusal {
  return new Refusal('UNAUTHENTICATED', `The token's ${claim} must be ${rule}`);
}
