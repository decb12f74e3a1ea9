import { existsSync } from 'node:fs';
import { isLoopback } from './auth/loopback.ts';
import type { Setting, Start } from './config/setting.ts';
import { groups, type Groups } from './config/settings.ts';

/**
 * Every setting, checked, in groups: see `config/settings.ts` for what there is. Holds secrets
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
  try {
    if (existsSync('.env')) process.loadEnvFile('.env');
  } catch {
    const message = 'cannot be read; make it a text file that this user may read, or remove it';
    throw new ConfigError([{ setting: '.env', message }]);
  }
  return process.env;
}

/** Every setting in force, one a line, by the name of its variable; secrets masked. */
export function describeConfig(config: Config): string {
  return config.settings
    .map(({ setting, shown, isDefault }) => `${setting}=${shown}${isDefault ? ' (default)' : ''}`)
    .join('\n');
}

function* problemsBetween(
  { server, auth, clusters, encryption, failpoints, provisioning }: Config,
  { embedded }: Start,
  broken: ReadonlySet<string>,
): Generator<ConfigProblem> {
  const isRead = (...names: string[]): boolean => !names.some((name) => broken.has(name));
  if (isRead('AUTH_MODE', 'HOST') && auth.mode === 'open' && !isLoopback(server.host)) {
    const message =
      'is no loopback address, and AUTH_MODE=open lets in whoever reaches it; write 127.0.0.1, ::1 or localhost';
    yield { setting: 'HOST', message };
  }
  if (isRead('AUTH_MODE')) yield* tokenProblems(auth, isRead);
  if (isRead('AUTH_MODE', 'HOST') && failpoints.rules !== null && auth.mode !== 'open') {
    const message =
      'makes a gateway fail on purpose: for tests with AUTH_MODE=open alone; remove it';
    yield { setting: 'FAILPOINTS', message };
  }
  if (isRead('ENCRYPTION_KEY') && !embedded && encryption.key === null) {
    const message = 'is required with DATABASE_URL; write what `npm run -s generate-key` prints';
    yield { setting: 'ENCRYPTION_KEY', message };
  }
  const { list, ...short } = clusters;
  const given = Object.entries(shortNames).filter(
    ([key]) => short[key as keyof typeof short] !== null,
  );
  if (isRead('CLUSTERS') && list !== null && given.length > 0) {
    const names = given.map(([, name]) => name).join(', ');
    yield {
      setting: 'CLUSTERS',
      message: `cannot stand beside ${names}; keep one way or the other`,
    };
  } else if (given.length > 0) {
    for (const key of ['host', 'user', 'password'] as const) {
      if (short[key] !== null || !isRead(shortNames[key])) continue;
      const names = given.map(([, name]) => name).join(', ');
      yield { setting: shortNames[key], message: `is required with ${names}` };
    }
  }
  if (isRead('AVAILABLE_TENANT_FEATURES', 'DEFAULT_TENANT_FEATURES')) {
    const { availableFeatures, defaultFeatures } = provisioning;
    const missing = defaultFeatures.filter((feature) => !availableFeatures.includes(feature));
    if (missing.length === 0) return;
    const message = `must be out of AVAILABLE_TENANT_FEATURES, which lacks ${missing.join(', ')}; write a list out of that`;
    yield { setting: 'DEFAULT_TENANT_FEATURES', message };
  }
}

/** The short way of naming one cluster. */
const shortNames = {
  host: 'TENANT_DB_HOST',
  port: 'TENANT_DB_PORT',
  user: 'TENANT_DB_USER',
  password: 'TENANT_DB_PASSWORD',
} as const;

const keySettings = ['JWT_JWKS_URL', 'JWT_PUBLIC_KEY', 'JWT_SECRET'];

/** Tokens are proved in one way, and for one issuer and audience. */
function* tokenProblems(
  { mode, jwksUrl, publicKey, secret, issuer, audience }: Config['auth'],
  isRead: (...names: string[]) => boolean,
): Generator<ConfigProblem> {
  if (!isRead(...keySettings)) return;
  const given = [jwksUrl, publicKey, secret].flatMap((value, index) =>
    value === null ? [] : [keySettings[index] ?? ''],
  );
  if (given.length > 1) {
    const message = `is one of ${given.length} ways to verify tokens (${given.join(', ')}); keep one`;
    yield { setting: given[0] ?? '', message };
  }
  if (given.length === 0 && mode === 'jwt') {
    const message =
      'jwt (the default with DATABASE_URL) needs one of JWT_JWKS_URL, JWT_PUBLIC_KEY and JWT_SECRET to verify tokens with; or write open, with a loopback HOST';
    yield { setting: 'AUTH_MODE', message };
  }
  if (given.length === 0) return;
  if (isRead('JWT_ISSUER') && issuer === null) {
    yield { setting: 'JWT_ISSUER', message: `is required with ${given[0] ?? ''}` };
  }
  if (isRead('JWT_AUDIENCE') && audience === null) {
    yield { setting: 'JWT_AUDIENCE', message: `is required with ${given[0] ?? ''}` };
  }
}

function textOf(env: Readonly<Record<string, string | undefined>>, name: string): string | null {
  const text = env[name]?.trim();
  return text === undefined || text === '' ? null : text;
}
