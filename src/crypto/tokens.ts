import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import {
  createLocalJWKSet,
  createRemoteJWKSet,
  customFetch,
  errors,
  jwtVerify,
  SignJWT,
  type CryptoKey,
  type FlattenedJWSInput,
  type JSONWebKeySet,
  type JWSHeaderParameters,
  type JWTPayload,
} from 'jose';

/** What a token has said, once it is proved. */
export interface VerifiedToken {
  /** `sub`, never empty. */
  readonly subject: string;
  readonly claims: Readonly<Record<string, unknown>>;
  /** From when on it is refused: `exp`, and the tolerance of clocks. */
  readonly expiresAt: Date;
}

/** Where the keys come from that tokens are signed with; it decides which algorithms are taken. */
export type TokenKeys =
  /** A JWKS at a fixed address: asymmetric algorithms, whatever a token's header says about keys. */
  | { readonly jwksUrl: URL }
  /** SPKI in PEM: the algorithms of its kind, never an HMAC. */
  | { readonly publicKey: string }
  /** At least 32 bytes: HS256 alone. */
  | { readonly secret: Uint8Array };

/** Who has to have made a token, and whom for. */
export interface TokenParties {
  readonly issuer: string;
  readonly audience: string;
}

/**
 * Proves a token.
 *
 * @throws TokenError INVALID when it does not hold, KEYS_UNAVAILABLE when the keys cannot be had now
 */
export type VerifyToken = (token: string) => Promise<VerifiedToken>;

export class TokenError extends Error {
  override readonly name = 'TokenError';
  readonly code: 'INVALID' | 'KEYS_UNAVAILABLE';

  constructor(code: TokenError['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** How far clocks may be apart, seconds. */
export const clockToleranceSeconds = 10;
/** The longest token that is looked at, bytes: longer ones cost more than they can be worth. */
const maxTokenBytes = 16 * 1024;
/** Bits of the shortest RSA key that is taken. */
const minRsaBits = 2048;
/** Verified tokens that are remembered. */
const maxRemembered = 10_000;

const jwksTimes = {
  /** A server that is slow must not make callers wait longer. */
  timeoutDuration: 4_000,
  /** Tokens with unknown key ids do not make us ask more often. */
  cooldownDuration: 30_000,
  /** A key that the server withdrew is good for no longer. */
  cacheMaxAge: 600_000,
};
/** After a JWKS server failed to answer, it is not asked again for so long. */
const failureCooldownMs = 2_000;

/**
 * Builds what proves the tokens of one issuer. A token that holds is remembered, by its hash, until it
 * expires or the keys change.
 *
 * @throws RangeError when the key is too weak or none
 */
export function createTokenVerifier(options: TokenKeys & TokenParties): VerifyToken {
  const remembered = new Map<string, VerifiedToken>();
  const keys = keySource(options, () => {
    remembered.clear();
  });
  const rules = {
    algorithms: [...keys.algorithms],
    issuer: options.issuer,
    audience: options.audience,
    requiredClaims: ['sub', 'exp'],
    clockTolerance: clockToleranceSeconds,
  };

  return async (token) => {
    if (token.length > maxTokenBytes) throw invalid('The token is too long');
    if (!isCanonical(token)) throw invalid('The token is not valid');
    const hash = createHash('sha256').update(token).digest('base64');
    const known = remembered.get(hash);
    if (known !== undefined && keys.fresh()) {
      if (known.expiresAt.getTime() > Date.now()) return known;
      remembered.delete(hash);
    }
    const payload = await verify(token, keys, rules);
    const verified = toVerified(payload);
    if (remembered.size >= maxRemembered) {
      // The oldest one. It is proved once more when it comes again.
      for (const oldest of remembered.keys()) {
        remembered.delete(oldest);
        break;
      }
    }
    remembered.set(hash, verified);
    return verified;
  };
}

/** Whether a text is a public key that tokens can be verified with: the problem, or null. */
export function publicKeyProblem(pem: string): string | null {
  try {
    publicKeySource(pem);
    return null;
  } catch (error) {
    return error instanceof RangeError ? error.message : 'must be a public key in PEM (SPKI)';
  }
}

/**
 * Signs a token with a secret (HS256).
 *
 * @param lifetimeSeconds from now to `exp`
 */
export async function signToken(
  secret: Uint8Array,
  claims: Readonly<Record<string, unknown>> & { readonly sub: string },
  { issuer, audience, lifetimeSeconds }: TokenParties & { readonly lifetimeSeconds: number },
): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  return new SignJWT({ ...claims })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setIssuer(issuer)
    .setAudience(audience)
    .setIssuedAt(now)
    .setExpirationTime(now + lifetimeSeconds)
    .sign(secret);
}

/** Who a token says it is from, without any proof: only to choose who proves it. Null: unknown. */
export function claimedIssuer(token: string): string | null {
  try {
    const payload: unknown = JSON.parse(
      Buffer.from(token.split('.', 2)[1] ?? '', 'base64url').toString(),
    );
    if (typeof payload !== 'object' || payload === null || !('iss' in payload)) return null;
    return typeof payload.iss === 'string' ? payload.iss : null;
  } catch {
    return null;
  }
}

type Key = CryptoKey | KeyObject | Uint8Array;

interface KeySource {
  readonly algorithms: readonly string[];
  /** Whether what was verified with these keys still holds without asking for them again. */
  fresh(): boolean;
  /** The keys that may have signed; several where the header names none. */
  find(header: JWSHeaderParameters, token: FlattenedJWSInput): Promise<readonly Key[]>;
}

function keySource(keys: TokenKeys, onChange: () => void): KeySource {
  if ('jwksUrl' in keys) return jwksSource(keys.jwksUrl, onChange);
  if ('publicKey' in keys) return publicKeySource(keys.publicKey);
  const { secret } = keys;
  if (secret.length < 32) throw new RangeError('must have at least 32 bytes');
  return { algorithms: ['HS256'], fresh: () => true, find: () => Promise.resolve([secret]) };
}

const rsaAlgorithms = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'];
const curveAlgorithms: Readonly<Record<string, readonly string[]>> = {
  prime256v1: ['ES256'],
  secp384r1: ['ES384'],
  secp521r1: ['ES512'],
};

function publicKeySource(pem: string): KeySource {
  if (!pem.includes('-----BEGIN PUBLIC KEY-----')) {
    throw new RangeError('must be a public key in PEM (SPKI), beginning with BEGIN PUBLIC KEY');
  }
  const key = createPublicKey(pem);
  const algorithms = algorithmsOf(key);
  return { algorithms, fresh: () => true, find: () => Promise.resolve([key]) };
}

function algorithmsOf(key: KeyObject): readonly string[] {
  const { modulusLength = 0, namedCurve = '' } = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case 'rsa':
      if (modulusLength >= minRsaBits) return rsaAlgorithms;
      throw new RangeError(`must be an RSA key of at least ${minRsaBits} bits`);
    case 'ed25519':
      return ['EdDSA', 'Ed25519'];
    case 'ec': {
      const algorithms = curveAlgorithms[namedCurve];
      if (algorithms !== undefined) return algorithms;
      break;
    }
    default:
  }
  throw new RangeError('must be an RSA, P-256, P-384, P-521 or Ed25519 key');
}

function jwksSource(url: URL, onChange: () => void): KeySource {
  let failedAt = -Infinity;
  let lastText: string | null = null;
  const jwks = createRemoteJWKSet(url, {
    ...jwksTimes,
    [customFetch]: async (address, init) => {
      if (performance.now() - failedAt < failureCooldownMs) {
        throw new Error('the JWKS server failed to answer a moment ago');
      }
      try {
        const response = await fetch(address, init);
        const text = await response.text();
        if (response.status !== 200) throw new Error(`the JWKS server answers ${response.status}`);
        createLocalJWKSet(JSON.parse(text) as JSONWebKeySet); // throws on what is no JWKS
        if (lastText !== null && lastText !== text) onChange();
        lastText = text;
        return new Response(text, { status: 200 });
      } catch (error) {
        failedAt = performance.now();
        throw error;
      }
    },
  });

  return {
    algorithms: [...rsaAlgorithms, 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'],
    fresh: () => jwks.fresh,
    async find(header, token) {
      try {
        return [await jwks(header, token)];
      } catch (error) {
        if (error instanceof errors.JWKSMultipleMatchingKeys) {
          return await Array.fromAsync(error as AsyncIterable<CryptoKey>);
        }
        if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JOSENotSupported) {
          throw invalid('The token is signed with an unknown key', error);
        }
        throw new TokenError('KEYS_UNAVAILABLE', 'The keys of tokens cannot be had at the moment', {
          cause: error,
        });
      }
    },
  };
}

async function verify(
  token: string,
  keys: KeySource,
  rules: NonNullable<Parameters<typeof jwtVerify>[2]>,
): Promise<JWTPayload> {
  let candidates: readonly Key[] = [];
  try {
    const first = async (header: JWSHeaderParameters, input: FlattenedJWSInput): Promise<Key> => {
      candidates = await keys.find(header, input);
      const [key] = candidates;
      if (key === undefined) throw invalid('The token is signed with an unknown key');
      return key;
    };
    return (await jwtVerify(token, first, rules)).payload;
  } catch (error) {
    if (error instanceof TokenError) throw error;
    if (error instanceof errors.JWSSignatureVerificationFailed) {
      for (const key of candidates.slice(1)) {
        const result = await jwtVerify(token, key, rules).catch(() => null);
        if (result !== null) return result.payload;
      }
    }
    throw invalid(reasonOf(error), error);
  }
}

/** jose reads past spaces, padding and loose bits at an end: for us a token has one spelling. */
function isCanonical(token: string): boolean {
  const parts = token.split('.');
  return (
    parts.length === 3 &&
    parts.every((part) => Buffer.from(part, 'base64url').toString('base64url') === part)
  );
}

/** What to tell of a token that does not hold: enough to mend one's own, nothing about the keys. */
function reasonOf(error: unknown): string {
  if (error instanceof errors.JWTExpired) return 'The token has expired';
  if (error instanceof errors.JWTClaimValidationFailed) {
    const { claim, reason } = error;
    if (claim === 'nbf') return 'The token is not valid yet';
    return reason === 'missing' ? `The token lacks ${claim}` : `The token's ${claim} does not fit`;
  }
  return 'The token is not valid';
}

function toVerified(payload: JWTPayload): VerifiedToken {
  const { sub, exp } = payload;
  if (typeof sub !== 'string' || sub === '' || exp === undefined) {
    throw invalid("The token's sub must be a text that is not empty");
  }
  const expiresAt = new Date((exp + clockToleranceSeconds) * 1000);
  if (Number.isNaN(expiresAt.getTime())) throw invalid("The token's exp is no moment");
  return { subject: sub, claims: payload, expiresAt };
}

function invalid(message: string, cause?: unknown): TokenError {
  return new TokenError('INVALID', message, { cause });
}
