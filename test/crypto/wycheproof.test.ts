import { createSecretKey } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { decrypt, EnvelopeError } from '../../src/crypto/envelope.ts';

// Project Wycheproof's vectors are not part of this repository: TEST_VECTORS names a folder of them.
const folder = process.env['TEST_VECTORS'];
const file = folder === undefined ? undefined : join(folder, 'wycheproof-aes_gcm_test.json');

interface Vectors {
  readonly testGroups: readonly {
    readonly keySize: number;
    readonly ivSize: number;
    readonly tagSize: number;
    readonly tests: readonly Vector[];
  }[];
}

interface Vector {
  readonly tcId: number;
  readonly comment: string;
  readonly result: 'valid' | 'invalid';
  readonly key: string;
  readonly iv: string;
  readonly aad: string;
  readonly msg: string;
  readonly ct: string;
  readonly tag: string;
}

describe.skipIf(file === undefined || !existsSync(file))('Wycheproof AES-256-GCM', () => {
  for (const vector of file !== undefined && existsSync(file) ? read(file) : []) {
    it(`${vector.tcId} ${vector.comment} (${vector.result})`, () => {
      const bytes = (hex: string): Buffer => Buffer.from(hex, 'hex');
      const sealed = bytes(vector.iv + vector.ct + vector.tag);
      const open = (): string =>
        decrypt(createSecretKey(bytes(vector.key)), sealed, bytes(vector.aad)).toString('hex');
      if (vector.result === 'valid') expect(open()).toBe(vector.msg);
      else expect(open).toThrow(EnvelopeError);
    });
  }
});

/** Those of our kind: 256-bit keys, 96-bit nonces, 128-bit tags. */
function read(path: string): Vector[] {
  const vectors = JSON.parse(readFileSync(path, 'utf8')) as Vectors;
  return vectors.testGroups
    .filter((group) => group.keySize === 256 && group.ivSize === 96 && group.tagSize === 128)
    .flatMap((group) => group.tests);
}
