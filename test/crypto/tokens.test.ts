import { createHmac, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { exportJWK, SignJWT } from 'jose';
import { afterEach, describe, expect, test } from 'vitest';
import {
  clockToleranceSeconds,
  createTokenVerifier,
  publicKeyProblem,
  signToken,
  type VerifyToken,
} from '../../src/crypto/tokens.ts';

const parties = { issuer: 'https://issuer.test', audience: 'tenantry' };
const now = (): number => Math.floor(Date.now() / 1000);
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const ed25519 = generateKeyPairSync('ed25519');
const pemOf = (key: KeyObject): string => key.export({ type: 'spki', format: 'pem' });
const secret = Buffer.alloc(32, 7);

const usual = () => ({ iss: parties.issuer, aud: parties.audience, sub: 'me', exp: now() + 60 });

function sign(
  key: KeyObject | Uint8Array,
  header: { alg: string } & Record<string, unknown>,
  claims: Record<string, unknown> = {},
): Promise<string> {
  return new SignJWT({ ...usual(), ...claims }).setProtectedHeader(header).sign(key);
}

/** Signed by hand: what jose refuses to make. */
function forge(header: object, claims: object, hmacKey: Buffer | string | null): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part(header)}.${part(claims)}`;
  if (hmacKey === null) return `${signed}.`;
  return `${signed}.${createHmac('sha256', hmacKey).update(signed).digest('base64url')}`;
}

const invalid = { name: 'TokenError', code: 'INVALID' };
const unavailable = { name: 'TokenError', code: 'KEYS_UNAVAILABLE' };

describe('a token signed with a secret', () => {
  const verify = createTokenVerifier({ secret, ...parties });
  const hs256 = { alg: 'HS256' };

  test('tells its subject, its claims, and when it ends', async () => {
    const exp = now() + 60;
    const token = await sign(secret, hs256, { sub: 'alice', roles: ['x'], exp });
    expect(await verify(token)).toEqual({
      subject: 'alice',
      claims: expect.objectContaining({ roles: ['x'] }) as unknown,
      expiresAt: new Date((exp + clockToleranceSeconds) * 1000),
    });
  });

  test('clocks may be apart, by no more than 30 seconds', async () => {
    expect(clockToleranceSeconds).toBeLessThanOrEqual(30);
    await verify(await sign(secret, hs256, { exp: now() - clockToleranceSeconds + 3 }));
    await verify(await sign(secret, hs256, { nbf: now() + clockToleranceSeconds - 1 }));
  });

  test.for<[what: string, claims: () => Record<string, unknown>, message: string]>([
    [
      'expired a second beyond the tolerance',
      () => ({ exp: now() - clockToleranceSeconds - 1 }),
      'The token has expired',
    ],
    [
      'not valid yet',
      () => ({ nbf: now() + clockToleranceSeconds + 5 }),
      'The token is not valid yet',
    ],
    ['without sub', () => ({ sub: undefined }), 'The token lacks sub'],
    ['with an empty sub', () => ({ sub: '' }), "The token's sub must be a text that is not empty"],
    ['without exp', () => ({ exp: undefined }), 'The token lacks exp'],
    ['without iss', () => ({ iss: undefined }), 'The token lacks iss'],
    ['of another issuer', () => ({ iss: 'https://evil.test' }), "The token's iss does not fit"],
    ['without aud', () => ({ aud: undefined }), 'The token lacks aud'],
    ['for somebody else', () => ({ aud: 'other' }), "The token's aud does not fit"],
    ['for several others', () => ({ aud: ['a', 'b'] }), "The token's aud does not fit"],
  ])('%s is refused', async ([, claims, message]) => {
    const token = await sign(secret, hs256, claims());
    await expect(verify(token)).rejects.toMatchObject({ ...invalid, message });
  });

  test('that is for us among others is taken', async () => {
    await verify(await sign(secret, hs256, { aud: ['other', parties.audience] }));
  });

  test.for<[what: string, token: () => Promise<string> | string]>([
    ['alg none', () => forge({ alg: 'none' }, usual(), null)],
    ['alg None', () => forge({ alg: 'None' }, usual(), null)],
    ['no alg', () => forge({}, usual(), secret)],
    ['another HMAC', () => sign(Buffer.alloc(64, 7), { alg: 'HS512' })],
    ['another secret', () => sign(Buffer.alloc(32, 8), { alg: 'HS256' })],
    ['RS256', () => sign(rsa.privateKey, { alg: 'RS256' })],
    [
      'a critical header nobody knows',
      () => forge({ alg: 'HS256', crit: ['x'], x: 1 }, usual(), secret),
    ],
    [
      'its own key in the header',
      async () => {
        const jwk = await exportJWK(p256.publicKey);
        return sign(p256.privateKey, { alg: 'ES256', jwk });
      },
    ],
    ['sub as a number', () => forge({ alg: 'HS256' }, { ...usual(), sub: 7 }, secret)],
    ['sub as null', () => forge({ alg: 'HS256' }, { ...usual(), sub: null }, secret)],
    ['exp as text', () => forge({ alg: 'HS256' }, { ...usual(), exp: '9999999999' }, secret)],
    ['exp beyond all time', () => forge({ alg: 'HS256' }, { ...usual(), exp: 1e300 }, secret)],
    ['claims that are a list', () => forge({ alg: 'HS256' }, [], secret)],
    ['100 KB', () => sign(secret, { alg: 'HS256' }, { padding: 'x'.repeat(100_000) })],
    ['no token', () => 'a.b.c'],
    ['no dots', () => 'abc'],
    ['nothing', () => ''],
  ])('%s is refused', async ([, make]) => {
    await expect(verify(await make())).rejects.toMatchObject(invalid);
  });

  test('one changed bit of the signature is refused, also after the right one was taken', async () => {
    const token = await sign(secret, hs256);
    await verify(token);
    const last = token.at(-2) === 'A' ? 'B' : 'A';
    const changed = token.slice(0, -2) + last + token.slice(-1);
    await expect(verify(changed)).rejects.toMatchObject(invalid);
  });

  test('a secret of less than 32 bytes is none', () => {
    expect(() => createTokenVerifier({ secret: Buffer.alloc(31), ...parties })).toThrow(RangeError);
  });

  test('signToken makes one', async () => {
    const token = await signToken(secret, { sub: 'me', x: 1 }, { ...parties, lifetimeSeconds: 9 });
    expect(await verify(token)).toMatchObject({ subject: 'me', claims: { x: 1 } });
  });
});

describe('a token signed with the private key of JWT_PUBLIC_KEY', () => {
  test.for([
    ['RS256', rsa],
    ['PS512', rsa],
    ['ES256', p256],
    ['EdDSA', ed25519],
  ] as const)('%s is taken', async ([alg, { privateKey, publicKey }]) => {
    const verify = createTokenVerifier({ publicKey: pemOf(publicKey), ...parties });
    expect(await verify(await sign(privateKey, { alg }))).toMatchObject({ subject: 'me' });
  });

  test.for([
    ['RSA', rsa.publicKey],
    ['P-256', p256.publicKey],
    ['Ed25519', ed25519.publicKey],
  ] as const)('HS256 with the %s public key as the secret is refused', async ([, key]) => {
    const pem = pemOf(key);
    const verify = createTokenVerifier({ publicKey: pem, ...parties });
    for (const text of [pem, pem.trim(), key.export({ type: 'spki', format: 'der' })]) {
      const token = forge({ alg: 'HS256' }, usual(), text);
      await expect(verify(token)).rejects.toMatchObject(invalid);
    }
  });

  test('keys that are too weak, or none, are refused by name', () => {
    const weak = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey;
    expect(publicKeyProblem(pemOf(weak))).toContain('2048');
    const odd = generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).publicKey;
    expect(publicKeyProblem(pemOf(odd))).toContain('P-256');
    expect(publicKeyProblem(pemOf(generateKeyPairSync('x25519').publicKey))).toContain('RSA');
    const secretPem = rsa.privateKey.export({ type: 'pkcs8', format: 'pem' });
    expect(publicKeyProblem(secretPem)).toContain('public key');
    expect(publicKeyProblem('no key')).toContain('public key');
    expect(publicKeyProblem(pemOf(rsa.publicKey))).toBeNull();
  });
});

describe('a token whose keys are at JWT_JWKS_URL', () => {
  let server: Server | undefined;
  afterEach(() => {
    server?.closeAllConnections();
    server?.close();
  });
  const other = generateKeyPairSync('rsa', { modulusLength: 2048 });
  let asked = 0;
  let answer: (() => Promise<string> | string) | null = null;

  async function serveKeys(
    ...keys: readonly (readonly [kid: string | undefined, key: KeyObject])[]
  ): Promise<VerifyToken> {
    const jwks = JSON.stringify({
      keys: await Promise.all(
        keys.map(async ([kid, key]) => ({
          ...(await exportJWK(key)),
          ...(kid === undefined ? {} : { kid }),
        })),
      ),
    });
    asked = 0;
    answer = () => jwks;
    server = createServer((_request, response) => {
      asked += 1;
      if (answer === null) return; // says nothing
      void Promise.resolve(answer()).then((text) => {
        response.writeHead(text === '' ? 500 : 200).end(text);
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    return createTokenVerifier({ jwksUrl: new URL(`http://127.0.0.1:${port}/keys`), ...parties });
  }

  test('is found by its kid, and the keys are asked for once', async () => {
    const verify = await serveKeys(['a', rsa.publicKey], ['b', p256.publicKey]);
    await verify(await sign(rsa.privateKey, { alg: 'RS256', kid: 'a' }));
    await verify(await sign(p256.privateKey, { alg: 'ES256', kid: 'b' }));
    await Promise.all(
      Array.from({ length: 20 }, async (_, index) =>
        verify(await sign(rsa.privateKey, { alg: 'RS256', kid: 'a' }, { index })),
      ),
    );
    expect(asked).toBe(1);
  });

  test('without kid is tried with all that fit', async () => {
    const verify = await serveKeys([undefined, other.publicKey], [undefined, rsa.publicKey]);
    expect(await verify(await sign(rsa.privateKey, { alg: 'RS256' }))).toMatchObject({
      subject: 'me',
    });
    const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 });
    await expect(verify(await sign(stranger.privateKey, { alg: 'RS256' }))).rejects.toMatchObject(
      invalid,
    );
  });

  test('with an unknown kid is refused, and does not make us ask again and again', async () => {
    const verify = await serveKeys(['a', rsa.publicKey]);
    for (let index = 0; index < 5; index += 1) {
      const token = await sign(other.privateKey, { alg: 'RS256', kid: `new-${index}` });
      await expect(verify(token)).rejects.toMatchObject(invalid);
    }
    expect(asked).toBe(1);
  });

  test('that names its keys itself is refused: jku, x5u and jwk count for nothing', async () => {
    const verify = await serveKeys(['a', rsa.publicKey]);
    let elsewhere = 0;
    const evil = createServer((_request, response) => {
      elsewhere += 1;
      response.end('{"keys": []}');
    });
    evil.listen(0, '127.0.0.1');
    await once(evil, 'listening');
    const url = `http://127.0.0.1:${(evil.address() as AddressInfo).port}/`;
    const jwk = await exportJWK(other.publicKey);
    for (const named of [{ jku: url }, { x5u: url }, { jwk }, { jku: url, x5u: url, jwk }]) {
      const token = await sign(other.privateKey, { alg: 'RS256', kid: 'a', ...named });
      await expect(verify(token)).rejects.toMatchObject(invalid);
    }
    expect(elsewhere).toBe(0);
    evil.close();
  });

  test('is never HS256, whatever the JWKS holds', async () => {
    const verify = await serveKeys(['a', rsa.publicKey]);
    const text = JSON.stringify({
      keys: [{ kty: 'oct', kid: 'a', k: secret.toString('base64url'), alg: 'HS256' }],
    });
    answer = () => text;
    await expect(verify(await sign(secret, { alg: 'HS256', kid: 'a' }))).rejects.toMatchObject(
      invalid,
    );
  });

  test('of a key of 1024 bits is refused', async () => {
    const weak = generateKeyPairSync('rsa', { modulusLength: 1024 });
    const verify = await serveKeys(['a', weak.publicKey]);
    const header = Buffer.from('{"alg":"RS256","kid":"a"}').toString('base64url');
    const payload = Buffer.from(JSON.stringify(usual())).toString('base64url');
    const { createSign } = await import('node:crypto');
    const signature = createSign('sha256')
      .update(`${header}.${payload}`)
      .sign(weak.privateKey, 'base64url');
    await expect(verify(`${header}.${payload}.${signature}`)).rejects.toMatchObject(invalid);
  });

  test.for<[what: string, broken: (() => Promise<string> | string) | null]>([
    ['answers with an error', () => ''],
    ['answers with what is no JWKS', () => '<html>'],
    ['says nothing', null],
  ])(
    'cannot be checked when the server %s; those that were, still can',
    { timeout: 20_000 },
    async ([, broken]) => {
      const verify = await serveKeys(['a', rsa.publicKey]);
      const good = await sign(rsa.privateKey, { alg: 'RS256', kid: 'a' });
      const working = answer;
      answer = broken;
      await expect(verify(good)).rejects.toMatchObject(unavailable);
      // Not asked again at once: it would only be one more that waits.
      const before = asked;
      await expect(verify(good)).rejects.toMatchObject(unavailable);
      expect(asked).toBe(before);
      answer = working;
      await expect
        .poll(
          () =>
            verify(good).then(
              ({ subject }) => subject,
              () => null,
            ),
          { timeout: 8_000, interval: 200 },
        )
        .toBe('me');
      answer = broken;
      await verify(await sign(rsa.privateKey, { alg: 'RS256', kid: 'a' }, { sub: 'another' }));
    },
  );

  test('cannot be checked when nobody listens there', async () => {
    const verify = createTokenVerifier({ jwksUrl: new URL('http://127.0.0.1:1/'), ...parties });
    const token = await sign(rsa.privateKey, { alg: 'RS256', kid: 'a' });
    await expect(verify(token)).rejects.toMatchObject(unavailable);
  });
});
