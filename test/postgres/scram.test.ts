import { createHash, createHmac } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { generatePassword, scramKeys, scramVerifier } from '../../src/postgres/scram.ts';

const sha256 = (bytes: Buffer): Buffer => createHash('sha256').update(bytes).digest();
const hmac = (key: Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest();

describe('scramVerifier', () => {
  it("agrees with RFC 7677's example", async () => {
    const nonce = 'rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0';
    const exchange = [
      'n=user,r=rOprNGfwEbeRWgbNEkqO',
      `r=${nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096`,
      `c=biws,r=${nonce}`,
    ].join(',');
    const salt = Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64');
    const { storedKey, serverKey } = await scramKeys('pencil', salt);

    expect(hmac(serverKey, exchange).toString('base64')).toBe(
      '6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=',
    );
    // The server recovers the client's key from its proof, and knows it by its digest.
    const proof = Buffer.from('dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=', 'base64');
    const signature = hmac(storedKey, exchange);
    expect(sha256(Buffer.from(proof.map((byte, at) => byte ^ signature[at]!)))).toEqual(storedKey);
  });

  it("has PostgreSQL's form, with a salt of its own each time", async () => {
    const [first, second] = await Promise.all([scramVerifier('pencil'), scramVerifier('pencil')]);
    const form =
      /^SCRAM-SHA-256\$4096:([A-Za-z0-9+/]{22}==)\$([A-Za-z0-9+/]{43}=):([A-Za-z0-9+/]{43}=)$/;
    expect(first).toMatch(form);
    expect(second).not.toBe(first);
    const [, salt, stored, server] = form.exec(first)!;
    const keys = await scramKeys('pencil', Buffer.from(salt!, 'base64'));
    expect([stored, server]).toEqual([
      keys.storedKey.toString('base64'),
      keys.serverKey.toString('base64'),
    ]);
  });

  it.each(['', 'pässword', 'tab\t', 'I\u00ADX'])(
    'refuses %j and does not print it',
    async (text) => {
      const refusal = await scramVerifier(text).catch((error: unknown) => error);
      expect(refusal).toBeInstanceOf(TypeError);
      if (text !== '') expect(String(refusal)).not.toContain(text);
    },
  );
});

describe('generatePassword', () => {
  it('holds 192 bits that a URL takes as they are', () => {
    const passwords = Array.from({ length: 1000 }, generatePassword);
    expect(new Set(passwords).size).toBe(1000);
    for (const password of passwords) {
      expect(password).toMatch(/^[A-Za-z0-9_-]{32}$/);
      expect(new URL(`postgres://a:${password}@c/d`).password).toBe(password);
    }
  });
});
