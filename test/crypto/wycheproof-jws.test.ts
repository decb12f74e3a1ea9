import { existsSync, readFileSync } from 'node:fs';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { errors, type JWK } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createTokenVerifier, TokenError, type VerifyToken } from '../../src/crypto/tokens.ts';

// Project Wycheproof's vectors are not part of this repository: TEST_VECTORS names a folder of them.
const folder = process.env['TEST_VECTORS'];
const file =
  folder === undefined ? undefined : join(folder, 'wycheproof-json_web_signature_test.json');

interface Group {
  readonly comment: string;
  readonly private?: JWK;
  readonly public?: JWK;
  readonly tests: readonly {
    readonly tcId: number;
    readonly comment: string;
    readonly jws: string;
    readonly result: 'valid' | 'invalid';
  }[];
}

describe.skipIf(file === undefined || !existsSync(file))('Wycheproof JSON Web Signature', () => {
  const groups = file !== undefined && existsSync(file) ? read(file) : [];
  let server: Server;
  let url: string;

  // One JWKS for each group of vectors.
  beforeAll(async () => {
    server = createServer((request, response) => {
      const group = groups[Number((request.url ?? '').slice(1))];
      response.end(JSON.stringify({ keys: [group?.public] }));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => server.close());

  for (const [index, group] of groups.entries()) {
    let verify: VerifyToken | undefined;
    for (const { tcId, comment, jws, result } of group.tests) {
      test(`${tcId} ${group.comment} ${comment} (${result})`, async () => {
        verify ??= verifier(group, `${url}/${index}`);
        expect(await isSigned(verify, jws)).toBe(result === 'valid');
      });
    }
  }
});

function verifier(group: Group, jwksUrl: string): VerifyToken {
  const parties = { issuer: 'x', audience: 'y' };
  const secret = group.private?.k;
  return createTokenVerifier(
    secret === undefined
      ? { jwksUrl: new URL(jwksUrl), ...parties }
      : { secret: Buffer.from(secret, 'base64url'), ...parties },
  );
}

/** The vectors sign no claims: a signature holds when it is the claims that are found to be none. */
async function isSigned(verify: VerifyToken, jws: string): Promise<boolean> {
  const error = await verify(jws).then(
    () => new Error('a token without claims was taken'),
    (reason: unknown) => reason as Error,
  );
  if (!(error instanceof TokenError)) throw error;
  expect(error.code).toBe('INVALID');
  return error.cause instanceof errors.JWTInvalid && error.cause.message.includes('Claims Set');
}

function read(path: string): Group[] {
  const { testGroups } = JSON.parse(readFileSync(path, 'utf8')) as { testGroups: Group[] };
  return testGroups.map((group) => ({
    ...group,
    ...(group.public === undefined ? {} : { public: mended(group.public, group.comment) }),
    tests: group.tests.filter(({ tcId }) => !leftOut.has(tcId)),
  }));
}

/** RFC 7520's own keys name an algorithm that there is not, and one that its signature has not. */
function mended({ alg, ...jwk }: JWK, comment: string): JWK {
  if (alg === undefined || comment.startsWith('rfc7520')) return jwk;
  return { ...jwk, alg };
}

/**
 * 367 and 370 ("invalid") are, letter for letter, 357 ("valid"). 372 and 373 are valid for those who read
 * past characters that are no base64url: we take one spelling alone.
 */
const leftOut: ReadonlySet<number> = new Set([367, 370, 372, 373]);
