// How the text of a setting is read, and what a rule says to a text that breaks it.
import { existsSync } from 'node:fs';
import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { z } from 'zod';
import { parseEncryptionKey } from '../crypto/envelope.ts';
import { connectionOptions } from '../postgres/connection.ts';

/** A whole number from `min` to `max`. */
export function whole(min: number, max: number) {
  const rule = `must be a whole number from ${min} to ${max}`;
  const digits = z
    .string()
    .regex(/^[0-9]+$/, rule)
    .transform(Number);
  return digits.pipe(z.int(rule).min(min, rule).max(max, rule));
}

/** One of these words. */
export function oneOf<const T extends readonly string[]>(values: T): z.ZodType<T[number], string> {
  return z.string().pipe(z.enum(values, `must be one of: ${values.join(', ')}`));
}

/** On or off. */
export function flag() {
  const words = { truthy: ['on', 'true', '1'], falsy: ['off', 'false', '0'] };
  return z.stringbool({ ...words, error: 'must be on or off (or true, false, 1, 0)' });
}

/** A JSON list of names of features. */
export function features(): z.ZodType<readonly string[], string> {
  const rule = 'must be a JSON list of names, such as ["basic","analytics"]';
  const name = z.string(rule).regex(/^[^\p{C}"]{1,255}$/u, rule);
  const parsed = z.string().transform((text, context): unknown => {
    try {
      return JSON.parse(text);
    } catch {
      return refuse(context, rule);
    }
  });
  return parsed.pipe(z.array(name, rule)).transform((names) => [...new Set(names)]);
}

/** The beginning of API keys. */
export function keyPrefix() {
  const rule = 'must be 1 to 20 letters, digits, _ and -';
  return z.string().regex(/^[A-Za-z0-9_-]{1,20}$/, rule);
}

/** A connection string that a person can tell apart from its password, as `maskUrl` has to. */
export function databaseUrl() {
  const form = 'postgres://user:password@host:5432/database';
  return z.string().transform((text, context) => {
    if (!/^postgres(ql)?:\/\//.test(text)) return refuse(context, `must have the form ${form}`);
    const url = URL.canParse(text) ? new URL(text) : null;
    // An unencoded / ? or # in the password ends the host early, and leaves its rest behind it.
    if (url === null || /[@#]/.test(url.pathname + url.search + url.hash)) {
      const message = `must have the form ${form}, with % / ? # @ and : in user and password written as %25 %2F %3F %23 %40 %3A`;
      return refuse(context, message);
    }
    if (url.hostname === '' || !/^\/[^/]+$/.test(url.pathname)) {
      return refuse(context, `must name a host and one database: ${form}`);
    }
    const misplaced = [...url.searchParams.keys()].some((name) => loginParameters.includes(name));
    if (misplaced) {
      return refuse(context, `must have ${loginParameters.join(', ')} in front of the ?: ${form}`);
    }
    const mode = url.searchParams.get('sslmode');
    if (mode !== null && !sslModes.includes(mode)) {
      return refuse(context, `must have an sslmode out of ${sslModes.join(', ')}`);
    }
    try {
      connectionOptions(text, { applicationName: 'tenantry', statementTimeoutMs: 0 });
    } catch {
      const message =
        'cannot be used: a % that stands for itself is written %25, sslmode=verify-ca needs sslrootcert, and the files of certificates must be readable';
      return refuse(context, message);
    }
    return text;
  });
}

const sslModes = ['disable', 'prefer', 'require', 'verify-ca', 'verify-full'];
// Tenants' connection strings are made from what stands in front of the query.
const loginParameters = ['host', 'port', 'user', 'password', 'dbname', 'database'];
const shownParameters = ['sslmode', 'sslrootcert', 'channel_binding', 'application_name'];

/** A secret as it may be shown. */
export const masked = (): string => '***';

/** A connection string as it may be shown: without its password. */
export function maskUrl(text: string): string {
  if (!URL.canParse(text)) return masked();
  const url = new URL(text);
  if (url.password !== '') url.password = masked();
  for (const name of new Set(url.searchParams.keys())) {
    if (!shownParameters.includes(name)) url.searchParams.set(name, masked());
  }
  return url.href;
}

/** One value; `parse` says undefined of a text that breaks the rule. */
export function one<T>(parse: (text: string) => T | undefined, rule: string): z.ZodType<T, string> {
  return z.string().transform((text, context) => parse(text) ?? refuse(context, `must be ${rule}`));
}

/** The same between commas, without repetitions. */
export function list<T>(
  parse: (text: string) => T | undefined,
  rule: string,
): z.ZodType<readonly T[], string> {
  return z.string().transform((text, context) => {
    const values = text.split(',').map((part, index) => {
      const message = `item ${index + 1} of the comma-separated list must be ${rule}`;
      return parse(part.trim()) ?? refuse(context, message);
    });
    return [...new Set(values)];
  });
}

function refuse(context: z.RefinementCtx<string>, message: string): never {
  context.addIssue({ code: 'custom', message });
  return z.NEVER;
}

/** An address or a host name. */
export function host(text: string): string | undefined {
  return isIP(text) > 0 || /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/i.test(text) ? text : undefined;
}

function webUrl(text: string): URL | undefined {
  const url = /^https?:\/\/[^/]/i.test(text) && URL.canParse(text) ? new URL(text) : undefined;
  return url?.username === '' && url.password === '' && !/[?#]/.test(text) ? url : undefined;
}

/** Where clients reach us, without a slash at the end. */
export function publicUrl(text: string): string | undefined {
  return webUrl(text)?.href.replace(/\/+$/, '');
}

/** The origin of a web page. */
export function origin(text: string): string | undefined {
  const url = webUrl(text);
  return url?.pathname === '/' ? url.origin : undefined;
}

/** 32 bytes in base64url. */
export function encryptionKey(text: string): Buffer | undefined {
  try {
    return parseEncryptionKey(text);
  } catch {
    return undefined;
  }
}

/** A name that a test lets through. */
export function nameIf(isAllowed: (name: string) => boolean): (text: string) => string | undefined {
  return (text) => (isAllowed(text) ? text : undefined);
}

/** The name of a table. */
export function tableName(text: string): string | undefined {
  return text !== '' && Buffer.byteLength(text) <= 63 ? text : undefined;
}

/** A folder that exists, absolute. */
export function folder(text: string): string | undefined {
  const path = resolve(text);
  // The dot is there in folders only.
  return existsSync(`${path}/.`) ? path : undefined;
}
