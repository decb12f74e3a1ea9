import { existsSync } from 'node:fs';
import { BlockList, isIP } from 'node:net';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { parseEncryptionKey } from './crypto/envelope.ts';
import { connectionOptions } from './postgres/connection.ts';
import { databaseStrategies } from './postgres/databases.ts';

/**
 * Every setting, checked, in groups: see `groups` below for what there is. Holds secrets
 * (`database.url`, `encryption`): not for logs. `settings` has them by variable, secrets masked.
 */
export type Config = {
  readonly [Group in keyof Groups]: {
    readonly [Key in keyof Groups[Group]]: Groups[Group][Key] extends Setting<infer T> ? T : never;
  };
} & { readonly settings: readonly SettingInForce[] };

interface SettingInForce {
  readonly setting: string;
  /** Empty when nothing is set and there is no default. */
  readonly shown: string;
  readonly isDefault: boolean;
}

interface ConfigProblem {
  /** Name of the environment variable. */
  readonly setting: string;
  /** What is wrong, and what to write instead. */
  readonly message: string;
}

/** All the settings that keep the product from starting, one a line. Never holds a secret. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly code = 'CONFIG';
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[]) {
    super(problems.map(({ setting, message }) => `${setting}: ${message}`).join('\n'));
    this.problems = problems;
  }
}

/**
 * Reads and checks the settings. Variables it does not know are ignored; an empty one counts as unset.
 *
 * @param env variables by name; the process's own and those of `.env` unless given
 * @param isTerminal whether a person reads the output: decides on LOG_FORMAT
 * @throws ConfigError with every problem there is
 * @example
 * readConfig({ PORT: '8080' }).server.port; // 8080
 */
export function readConfig(
  env: Readonly<Record<string, string | undefined>> = environment(),
  isTerminal = process.stdout.isTTY,
): Config {
  const start: Start = { embedded: textOf(env, 'DATABASE_URL') === null, isTerminal };
  const problems: ConfigProblem[] = [];
  const settings: SettingInForce[] = [];

  function read({ name, schema, fallback, unset, show }: Setting): unknown {
    const given = textOf(env, name);
    const text = given ?? fallback(start);
    settings.push({
      setting: name,
      shown: text === null ? '' : show(text),
      isDefault: given === null,
    });
    if (text === null) return unset;
    const parsed = schema.safeParse(text);
    if (parsed.success) return parsed.data;
    for (const message of new Set(parsed.error.issues.map((issue) => issue.message))) {
      problems.push({ setting: name, message });
    }
    return undefined;
  }

  const config = {
    ...Object.fromEntries(
      Object.entries<Readonly<Record<string, Setting>>>(groups).map(([group, members]) => [
        group,
        Object.fromEntries(Object.entries(members).map(([key, member]) => [key, read(member)])),
      ]),
    ),
    settings,
  } as unknown as Config;
  const broken = new Set(problems.map(({ setting }) => setting));
  problems.push(...problemsBetween(config, start, broken));
  if (problems.length > 0) throw new ConfigError(problems);
  return config;
}

/** The process's variables, and those of a file `.env` in the working directory where it has none. */
function environment(): NodeJS.ProcessEnv {
  if (existsSync('.env')) process.loadEnvFile('.env');
  return process.env;
}

/** Every setting in force, one a line, by the name of its variable; secrets masked. */
export function describeConfig(config: Config): string {
  return config.settings
    .map(({ setting, shown, isDefault }) => `${setting}=${shown}${isDefault ? ' (default)' : ''}`)
    .join('\n');
}

/** What some defaults depend on. */
interface Start {
  readonly embedded: boolean;
  readonly isTerminal: boolean;
}

interface Setting<T = unknown> {
  readonly name: string;
  readonly schema: z.ZodType<T, string>;
  /** The default, as one would write it; null: none. */
  readonly fallback: (start: Start) => string | null;
  /** The value when there is neither text nor default. */
  readonly unset: T | undefined;
  readonly show: (text: string) => string;
}

type Groups = typeof groups;

const onWhenEmbedded = ({ embedded }: Start) => (embedded ? 'on' : 'off');
const masked = () => '***';
const ownMigrations = () => fileURLToPath(new URL('../tenant-migrations', import.meta.url));
const knownFeatures = 'basic analytics reporting advanced_security api_access webhooks'.split(' ');
const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
const keyRule = '32 bytes in base64url, such as `npm run -s generate-key` prints';
const dayInSeconds = 86_400;
// Node's timers (milliseconds) and PostgreSQL's settings end here.
const int32Max = 2_147_483_647;

const groups = {
  server: {
    host: setting(
      'HOST',
      one(host, 'an address or host name, without scheme, port or brackets'),
      '127.0.0.1',
    ),
    /** 0: any free one. */
    port: setting('PORT', whole(0, 65_535), '4000'),
    /** Where clients reach it, without a slash at the end; null: not known. */
    publicUrl: optional(
      'PUBLIC_URL',
      one(publicUrl, 'a URL such as https://tenants.example.com, without user, query and #'),
    ),
    /** How many proxies to believe for the client's address. */
    trustedProxies: setting('TRUST_PROXY', whole(0, 100), '0'),
    corsOrigins: optionalList(
      'CORS_ORIGINS',
      list(origin, 'an origin such as https://app.example.com'),
    ),
    graphiql: setting('GRAPHIQL', flag(), onWhenEmbedded),
    introspection: setting('INTROSPECTION', flag(), onWhenEmbedded),
    shutdownGraceSeconds: setting('SHUTDOWN_GRACE_SECONDS', whole(0, 3600), '20'),
  },
  database: {
    /** The control plane, a secret; null: the embedded server. */
    url: optional('DATABASE_URL', databaseUrl(), maskUrl),
    /** Of the embedded server's files and of keys; absolute. */
    dataDir: setting(
      'DATA_DIR',
      z.string().transform((text) => resolve(text)),
      '.data',
      resolve,
    ),
    poolMax: setting('DB_POOL_MAX', whole(1, 1000), '20'),
    poolTimeoutMs: setting('DB_POOL_TIMEOUT_MS', whole(1, 3_600_000), '30000'),
    clusterConnectionsMax: setting('CLUSTER_CONNECTIONS_MAX', whole(3, 1000), '20'),
  },
  encryption: {
    /** 32 bytes; null: to be made once and kept in dataDir (embedded only). */
    key: optional('ENCRYPTION_KEY', one(encryptionKey, keyRule), masked),
    previousKeys: optionalList('ENCRYPTION_KEYS_PREVIOUS', list(encryptionKey, keyRule), masked),
  },
  auth: {
    mode: setting('AUTH_MODE', oneOf(['open', 'jwt']), (start) =>
      start.embedded ? 'open' : 'jwt',
    ),
  },
  provisioning: {
    /** Of each caller; 0: no limit. */
    creationsPerMinute: setting('RATE_LIMIT_CREATIONS_PER_MINUTE', whole(0, 1_000_000), '10'),
    /** 0: no limit. */
    maxTenantsPerPartner: setting('MAX_TENANTS_PER_PARTNER', whole(0, int32Max), '0'),
    operationTimeoutSeconds: setting('SCHEMA_CREATION_TIMEOUT', whole(1, dayInSeconds), '60'),
    takeoverSeconds: setting('TAKEOVER_SECONDS', whole(1, dayInSeconds), '20'),
    idempotencyTtlHours: setting('IDEMPOTENCY_TTL_HOURS', whole(1, 24 * 366), '24'),
    availableFeatures: setting(
      'AVAILABLE_TENANT_FEATURES',
      features(),
      JSON.stringify(knownFeatures),
    ),
    defaultFeatures: setting('DEFAULT_TENANT_FEATURES', features(), '["basic","analytics"]'),
    apiKeyPrefix: setting('API_KEY_PREFIX', keyPrefix(), 'tk_'),
    /** Random characters. */
    apiKeyLength: setting('API_KEY_LENGTH', whole(32, 256), '32'),
  },
  /** Of tenants' databases. */
  tenants: {
    /** Of Knex migrations; absolute. */
    migrationsFolder: setting(
      'TENANT_MIGRATIONS_DIR',
      one(folder, 'a folder that exists'),
      ownMigrations,
      resolve,
    ),
    requiredTenantTables: setting(
      'REQUIRED_TENANT_TABLES',
      list(tableName, 'the name of a table: 1 to 63 bytes'),
      'settings,activity_log',
    ),
    createDatabaseStrategy: setting(
      'CREATE_DATABASE_STRATEGY',
      oneOf(databaseStrategies),
      'WAL_LOG',
    ),
    /** Connections at once of each tenant's login. */
    tenantConnectionLimit: setting('TENANT_CONNECTION_LIMIT', whole(1, 262_143), '50'),
    /** 0: no limit. */
    tenantStatementTimeoutMs: setting('TENANT_STATEMENT_TIMEOUT_MS', whole(0, int32Max), '0'),
    /** Days from a soft delete to the purge. */
    deletionRetentionDays: setting('DELETION_RETENTION_DAYS', whole(0, 36_500), '30'),
  },
  log: {
    level: setting('LOG_LEVEL', oneOf(logLevels), 'info'),
    format: setting('LOG_FORMAT', oneOf(['pretty', 'json']), (start) =>
      start.isTerminal ? 'pretty' : 'json',
    ),
  },
};

/** The names of all settings. */
export const settingNames: readonly string[] = Object.values<Readonly<Record<string, Setting>>>(
  groups,
).flatMap((members) => Object.values(members).map(({ name }) => name));

function* problemsBetween(
  { server, auth, encryption, provisioning }: Config,
  { embedded }: Start,
  broken: ReadonlySet<string>,
): Generator<ConfigProblem> {
  const isRead = (...names: string[]): boolean => !names.some((name) => broken.has(name));
  if (isRead('AUTH_MODE') && auth.mode === 'jwt') {
    const message =
      'jwt (the default with DATABASE_URL) is not possible yet: this version does not verify tokens; write open, with a loopback HOST such as 127.0.0.1';
    yield { setting: 'AUTH_MODE', message };
  } else if (isRead('AUTH_MODE', 'HOST') && !isLoopback(server.host)) {
    const message =
      'is no loopback address, and AUTH_MODE=open lets in whoever reaches it; write 127.0.0.1, ::1 or localhost';
    yield { setting: 'HOST', message };
  }
  if (isRead('ENCRYPTION_KEY') && !embedded && encryption.key === null) {
    const message = 'is required with DATABASE_URL; write what `npm run -s generate-key` prints';
    yield { setting: 'ENCRYPTION_KEY', message };
  }
  if (isRead('AVAILABLE_TENANT_FEATURES', 'DEFAULT_TENANT_FEATURES')) {
    const { availableFeatures, defaultFeatures } = provisioning;
    const missing = defaultFeatures.filter((feature) => !availableFeatures.includes(feature));
    if (missing.length === 0) return;
    const message = `must be out of AVAILABLE_TENANT_FEATURES, which lacks ${missing.join(', ')}; write a list out of that`;
    yield { setting: 'DEFAULT_TENANT_FEATURES', message };
  }
}

function textOf(env: Readonly<Record<string, string | undefined>>, name: string): string | null {
  const text = env[name]?.trim();
  return text === undefined || text === '' ? null : text;
}

function setting<T>(
  name: string,
  schema: z.ZodType<T, string>,
  fallback: string | ((start: Start) => string),
  show: Setting['show'] = (text) => text.replaceAll(/\s+/g, ' '),
): Setting<T> {
  const fallbackOf = typeof fallback === 'string' ? () => fallback : fallback;
  return { name, schema, fallback: fallbackOf, unset: undefined, show };
}

function optional<T>(
  name: string,
  schema: z.ZodType<T, string>,
  show?: Setting['show'],
): Setting<T | null> {
  return { ...setting<T | null>(name, schema, '', show), fallback: () => null, unset: null };
}

function optionalList<T>(
  name: string,
  schema: z.ZodType<readonly T[], string>,
  show?: Setting['show'],
): Setting<readonly T[]> {
  return { ...setting(name, schema, '', show), fallback: () => null, unset: [] };
}

function whole(min: number, max: number) {
  const rule = `must be a whole number from ${min} to ${max}`;
  const digits = z
    .string()
    .regex(/^[0-9]+$/, rule)
    .transform(Number);
  return digits.pipe(z.int(rule).min(min, rule).max(max, rule));
}

function oneOf<const T extends readonly string[]>(values: T): z.ZodType<T[number], string> {
  return z.string().pipe(z.enum(values, `must be one of: ${values.join(', ')}`));
}

function flag() {
  const words = { truthy: ['on', 'true', '1'], falsy: ['off', 'false', '0'] };
  return z.stringbool({ ...words, error: 'must be on or off (or true, false, 1, 0)' });
}

function features(): z.ZodType<readonly string[], string> {
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

function keyPrefix() {
  const rule = 'must be 1 to 20 letters, digits, _ and -';
  return z.string().regex(/^[A-Za-z0-9_-]{1,20}$/, rule);
}

/** A connection string that a person can tell apart from its password, as `maskUrl` has to. */
function databaseUrl() {
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

function maskUrl(text: string): string {
  if (!URL.canParse(text)) return masked();
  const url = new URL(text);
  if (url.password !== '') url.password = masked();
  for (const name of new Set(url.searchParams.keys())) {
    if (!shownParameters.includes(name)) url.searchParams.set(name, masked());
  }
  return url.href;
}

/** One value; `parse` says undefined of a text that breaks the rule. */
function one<T>(parse: (text: string) => T | undefined, rule: string): z.ZodType<T, string> {
  return z.string().transform((text, context) => parse(text) ?? refuse(context, `must be ${rule}`));
}

/** The same between commas, without repetitions. */
function list<T>(
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

function host(text: string): string | undefined {
  return isIP(text) > 0 || /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/i.test(text) ? text : undefined;
}

function isLoopback(text: string): boolean {
  const family = isIP(text);
  if (family === 0) return text.toLowerCase() === 'localhost';
  return loopback.check(text, family === 4 ? 'ipv4' : 'ipv6');
}

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

function webUrl(text: string): URL | undefined {
  const url = /^https?:\/\/[^/]/i.test(text) && URL.canParse(text) ? new URL(text) : undefined;
  return url?.username === '' && url.password === '' && !/[?#]/.test(text) ? url : undefined;
}

function publicUrl(text: string): string | undefined {
  return webUrl(text)?.href.replace(/\/+$/, '');
}

function origin(text: string): string | undefined {
  const url = webUrl(text);
  return url?.pathname === '/' ? url.origin : undefined;
}

function encryptionKey(text: string): Buffer | undefined {
  try {
    return parseEncryptionKey(text);
  } catch {
    return undefined;
  }
}

function tableName(text: string): string | undefined {
  return text !== '' && Buffer.byteLength(text) <= 63 ? text : undefined;
}

function folder(text: string): string | undefined {
  const path = resolve(text);
  // The dot is there in folders only.
  return existsSync(`${path}/.`) ? path : undefined;
}
