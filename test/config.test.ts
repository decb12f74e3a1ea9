import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { ConfigError, describeConfig, readConfig } from '../src/config.ts';
import { settingNames } from '../src/config/settings.ts';
import { generateEncryptionKey } from '../src/crypto/envelope.ts';

const root = resolve(import.meta.dirname, '..');
const key = generateEncryptionKey();
const url = 'postgres://operator:swordfish@db.example.com:5432/control';
/** The least that an installation with a server of its own sets. */
const served = { DATABASE_URL: url, ENCRYPTION_KEY: key, AUTH_MODE: 'open' };
const features = ['basic', 'analytics', 'reporting', 'advanced_security', 'api_access', 'webhooks'];

type Env = Record<string, string | undefined>;

function errorOf(env: Env): ConfigError {
  try {
    readConfig(env);
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  throw new Error('expected a ConfigError');
}

const named = (env: Env): string[] => errorOf(env).problems.map(({ setting }) => setting);

describe('readConfig with nothing set', () => {
  it('is the embedded default', () => {
    const { settings, ...groups } = readConfig({}, true);
    expect(groups).toEqual({
      server: {
        host: '127.0.0.1',
        port: 4000,
        publicUrl: null,
        trustedProxies: 0,
        corsOrigins: [],
        graphiql: true,
        introspection: true,
        shutdownGraceSeconds: 20,
      },
      database: {
        url: null,
        dataDir: resolve('.data'),
        poolMax: 20,
        poolTimeoutMs: 30_000,
        clusterConnectionsMax: 20,
      },
      clusters: { list: null, host: null, port: null, user: null, password: null },
      encryption: { key: null, previousKeys: [] },
      auth: {
        mode: 'open',
        jwksUrl: null,
        publicKey: null,
        secret: null,
        issuer: null,
        audience: null,
        rolesClaim: 'roles',
        partnerClaim: 'partner',
        failuresPerMinute: 100,
      },
      provisioning: {
        creationsPerMinute: 10,
        batchTenantsPerMinute: 200,
        maxTenantsPerBatch: 50,
        batchConcurrency: 5,
        batchTimeoutSeconds: 300,
        maxTenantsPerPartner: 0,
        operationTimeoutSeconds: 60,
        takeoverSeconds: 20,
        idempotencyTtlHours: 24,
        availableFeatures: features,
        defaultFeatures: ['basic', 'analytics'],
        apiKeyPrefix: 'tk_',
        apiKeyLength: 32,
        apiKeyOverlapSeconds: 86_400,
      },
      standbys: { DATABASE: 4, SCHEMA: 4 },
      tenants: {
        migrationsFolder: join(root, 'tenant-migrations'),
        requiredTenantTables: ['settings', 'activity_log'],
        sharedDatabase: 'tenants_shared',
        schemaPrefix: 'tenant_',
        extensionsSchema: 'extensions',
        createDatabaseStrategy: 'WAL_LOG',
        tenantConnectionLimit: 20,
        tenantStatementTimeoutMs: 0,
        deletionRetentionDays: 30,
      },
      audit: { retentionDays: 0 },
      reconcile: { intervalSeconds: 300, graceSeconds: 600 },
      failpoints: { rules: null },
      log: { level: 'info', format: 'pretty' },
    });
    expect(settings.every(({ isDefault }) => isDefault)).toBe(true);
  });

  it.each(['', ' ', '\n\t'])('takes %j for unset', (nothing) => {
    const env = Object.fromEntries(settingNames.map((name) => [name, nothing]));
    expect(readConfig(env, true)).toEqual(readConfig({}, true));
  });

  it('ignores variables that it does not know', () => {
    const env = { JWT_KEY: 'x', CLUSTER: 'no json', PATH: '/bin', host: '0.0.0.0' };
    expect(readConfig(env, true)).toEqual(readConfig({}, true));
  });

  it('logs for machines where nobody looks', () => {
    expect(readConfig({}, false).log.format).toBe('json');
    expect(readConfig({ LOG_FORMAT: 'pretty' }, false).log.format).toBe('pretty');
  });
});

describe('readConfig with DATABASE_URL', () => {
  it('turns GraphiQL and introspection off, and takes the key', () => {
    const config = readConfig(served);
    expect(config.database.url).toBe(url);
    expect(config.encryption.key).toEqual(Buffer.from(key, 'base64url'));
    expect(config.server).toMatchObject({ graphiql: false, introspection: false });
  });

  it('asks for a key, and says how to make one', () => {
    const { message } = errorOf({ ...served, ENCRYPTION_KEY: '' });
    expect(message).toMatch(/^ENCRYPTION_KEY: .*DATABASE_URL.*npm run -s generate-key/);
    expect(message).not.toContain('\n');
  });

  it('means AUTH_MODE=jwt by default, which needs a way to verify tokens', () => {
    const { message } = errorOf({ ...served, AUTH_MODE: undefined });
    expect(message).toMatch(/^AUTH_MODE: jwt .*JWT_JWKS_URL, JWT_PUBLIC_KEY and JWT_SECRET/);
    expect(message).not.toContain('\n');
  });

  const parties = { JWT_ISSUER: 'https://issuer.test', JWT_AUDIENCE: 'tenantry' };
  const secret = { JWT_SECRET: 'swordfish '.repeat(4) };
  const pem = generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'pem' });

  it.each([
    [secret],
    [{ JWT_PUBLIC_KEY: pem }],
    [{ JWT_PUBLIC_KEY: pem.replaceAll('\n', String.raw`\n`) }],
    [{ JWT_JWKS_URL: 'https://issuer.test/keys?x=1' }],
    [{ JWT_JWKS_URL: 'http://localhost:8080/keys' }],
  ])('takes %j with an issuer and an audience, on any HOST', (way) => {
    const env = { ...served, AUTH_MODE: undefined, HOST: '0.0.0.0', ...parties, ...way };
    const { auth, settings } = readConfig(env);
    expect(auth).toMatchObject({
      mode: 'jwt',
      issuer: 'https://issuer.test',
      audience: 'tenantry',
    });
    expect(JSON.stringify(settings)).not.toContain('swordfish');
    const problems = named({ ...env, JWT_ISSUER: '', JWT_AUDIENCE: '' });
    expect(problems).toEqual(['JWT_ISSUER', 'JWT_AUDIENCE']);
    // In open mode too, beside the tokens of the local key.
    expect(readConfig({ ...env, AUTH_MODE: 'open', HOST: '127.0.0.1' }).auth.mode).toBe('open');
  });

  it.each(['jwt', 'open'])('AUTH_MODE=%s: refuses two ways to verify tokens', (AUTH_MODE) => {
    const { message } = errorOf({
      ...served,
      AUTH_MODE,
      ...parties,
      ...secret,
      JWT_PUBLIC_KEY: pem,
    });
    expect(message).toBe(
      'JWT_PUBLIC_KEY: is one of 2 ways to verify tokens (JWT_PUBLIC_KEY, JWT_SECRET); keep one',
    );
  });

  it.each([
    'postgresql://u:p@h/d',
    'postgres://u@h/d',
    'postgres://u:p@h:6432/d?sslmode=disable',
    'postgres://u:p@h/d?sslmode=require&application_name=x',
    'postgres://u:p@[::1]:5432/d',
    'postgres://u:p%40%2F%3F%23%25@h/d',
    'postgres://u:p@h/d%20e',
  ])('takes %s', (DATABASE_URL) => {
    expect(readConfig({ ...served, DATABASE_URL }).database.url).toBe(DATABASE_URL);
  });
});

describe('values', () => {
  it.each<[string, string, (config: ReturnType<typeof readConfig>) => unknown, unknown]>([
    ['HOST', '::1', ({ server }) => server.host, '::1'],
    ['HOST', '0:0:0:0:0:0:0:1', ({ server }) => server.host, '0:0:0:0:0:0:0:1'],
    ['HOST', '127.8.9.10', ({ server }) => server.host, '127.8.9.10'],
    ['HOST', ' LocalHost ', ({ server }) => server.host, 'LocalHost'],
    ['PORT', '0', ({ server }) => server.port, 0],
    ['PORT', '65535', ({ server }) => server.port, 65_535],
    [
      'PUBLIC_URL',
      'https://t.example.com/',
      ({ server }) => server.publicUrl,
      'https://t.example.com',
    ],
    ['PUBLIC_URL', 'http://a:8080/b/', ({ server }) => server.publicUrl, 'http://a:8080/b'],
    ['TRUST_PROXY', '2', ({ server }) => server.trustedProxies, 2],
    [
      'CORS_ORIGINS',
      'https://App.example.com/ ,http://localhost:3000, https://app.example.com',
      ({ server }) => server.corsOrigins,
      ['https://app.example.com', 'http://localhost:3000'],
    ],
    ['GRAPHIQL', 'off', ({ server }) => server.graphiql, false],
    ['GRAPHIQL', 'FALSE', ({ server }) => server.graphiql, false],
    ['INTROSPECTION', '0', ({ server }) => server.introspection, false],
    ['INTROSPECTION', '1', ({ server }) => server.introspection, true],
    ['INTROSPECTION', 'true', ({ server }) => server.introspection, true],
    ['DATA_DIR', '/var/lib/x/../y', ({ database }) => database.dataDir, '/var/lib/y'],
    ['CLUSTER_CONNECTIONS_MAX', '3', ({ database }) => database.clusterConnectionsMax, 3],
    [
      'ENCRYPTION_KEY',
      `${key}=`,
      ({ encryption }) => encryption.key,
      Buffer.from(key, 'base64url'),
    ],
    [
      'ENCRYPTION_KEYS_PREVIOUS',
      `${key}, ${key}=`,
      ({ encryption }) => encryption.previousKeys.map((each) => each.toString('base64url')),
      [key, key],
    ],
    ['SHUTDOWN_GRACE_SECONDS', '0', ({ server }) => server.shutdownGraceSeconds, 0],
    ['DEFAULT_TENANT_FEATURES', '[]', ({ provisioning }) => provisioning.defaultFeatures, []],
    [
      'DEFAULT_TENANT_FEATURES',
      '[ "webhooks", "webhooks" ]',
      ({ provisioning }) => provisioning.defaultFeatures,
      ['webhooks'],
    ],
    ['API_KEY_PREFIX', 'acme-1_', ({ provisioning }) => provisioning.apiKeyPrefix, 'acme-1_'],
    ['API_KEY_LENGTH', '48', ({ provisioning }) => provisioning.apiKeyLength, 48],
    ['REQUIRED_TENANT_TABLES', 'a, b,a', ({ tenants }) => tenants.requiredTenantTables, ['a', 'b']],
    ['SHARED_TENANT_DATABASE', 'Many-1', ({ tenants }) => tenants.sharedDatabase, 'Many-1'],
    ['TENANT_SCHEMA_PREFIX', 'Acme_', ({ tenants }) => tenants.schemaPrefix, 'Acme_'],
    [
      'CREATE_DATABASE_STRATEGY',
      'FILE_COPY',
      ({ tenants }) => tenants.createDatabaseStrategy,
      'FILE_COPY',
    ],
    [
      'TENANT_STATEMENT_TIMEOUT_MS',
      '2147483647',
      ({ tenants }) => tenants.tenantStatementTimeoutMs,
      2_147_483_647,
    ],
    ['LOG_LEVEL', 'silent', ({ log }) => log.level, 'silent'],
  ])('%s=%s', (name, text, pick, expected) => {
    expect(pick(readConfig({ [name]: text }))).toEqual(expected);
  });

  describe('TENANT_MIGRATIONS_DIR', () => {
    const start = process.cwd();
    afterEach(() => process.chdir(start));

    it('is the folder of the project by default, wherever it is started', () => {
      process.chdir(tmpdir());
      expect(readConfig({}).tenants.migrationsFolder).toBe(join(root, 'tenant-migrations'));
    });

    it('is resolved against the current folder when it is given', () => {
      process.chdir(tmpdir());
      const given = relative(process.cwd(), join(root, 'migrations'));
      const config = readConfig({ TENANT_MIGRATIONS_DIR: given });
      expect(config.tenants.migrationsFolder).toBe(join(root, 'migrations'));
    });
  });
});

describe('problems', () => {
  const wholeNumbers: [string, number, number][] = [
    ['PORT', 0, 65_535],
    ['TRUST_PROXY', 0, 100],
    ['SHUTDOWN_GRACE_SECONDS', 0, 3600],
    ['DB_POOL_MAX', 1, 1000],
    ['DB_POOL_TIMEOUT_MS', 1, 3_600_000],
    ['CLUSTER_CONNECTIONS_MAX', 3, 1000],
    ['STANDBY_DATABASES', 0, 100],
    ['STANDBY_SCHEMAS', 0, 1000],
    ['RATE_LIMIT_CREATIONS_PER_MINUTE', 0, 1_000_000],
    ['RATE_LIMIT_BATCH_TENANTS_PER_MINUTE', 0, 1_000_000],
    ['MAX_TENANTS_PER_BATCH', 1, 500],
    ['BATCH_CONCURRENCY', 1, 100],
    ['BATCH_PROCESSING_TIMEOUT', 1, 86_400],
    ['MAX_TENANTS_PER_PARTNER', 0, 2_147_483_647],
    ['SCHEMA_CREATION_TIMEOUT', 1, 86_400],
    ['TAKEOVER_SECONDS', 1, 86_400],
    ['IDEMPOTENCY_TTL_HOURS', 1, 8784],
    ['TENANT_CONNECTION_LIMIT', 1, 262_143],
    ['TENANT_STATEMENT_TIMEOUT_MS', 0, 2_147_483_647],
    ['API_KEY_LENGTH', 32, 256],
    ['RECONCILE_INTERVAL_SECONDS', 1, 86_400],
    ['RECONCILE_GRACE_SECONDS', 0, 2_592_000],
  ];
  const badNumbers = [
    'x',
    '-1',
    '+1',
    '1.5',
    '1e3',
    '0x10',
    '1 0',
    '٣',
    'Infinity',
    '9'.repeat(400),
  ];

  describe.each(wholeNumbers)('%s', (name, min, max) => {
    const message = `${name}: must be a whole number from ${min} to ${max}`;

    it.each([String(min), String(max)])('takes %s', (text) => {
      expect(() => readConfig({ [name]: text })).not.toThrow();
    });

    it.each([...badNumbers, String(min - 1), String(max + 1)])('refuses %s', (text) => {
      expect(errorOf({ [name]: text }).message).toBe(message);
    });
  });

  it.each([
    ['HOST', ['http://localhost', '[::1]', 'localhost:4000', 'a b', '-x'], 'address or host name'],
    [
      'PUBLIC_URL',
      ['t.example.com', 'ftp://x', 'https://', 'https://u:p@x', 'https://x?y', 'https://x#y'],
      'a URL such as https://',
    ],
    [
      'CORS_ORIGINS',
      ['*', 'null', 'app.example.com', 'https://a/b', 'https://a?', 'https://u@a', 'https://a,,'],
      'an origin such as https://',
    ],
    ['GRAPHIQL', ['yes', '2', 'enabled'], 'on or off'],
    ['INTROSPECTION', ['no', 'y'], 'on or off'],
    ['ENCRYPTION_KEY', ['x', key.slice(1), `${key}a`, 'ü'.repeat(43)], '32 bytes in base64url'],
    ['ENCRYPTION_KEYS_PREVIOUS', ['x', `${key},`, `${key};${key}`], '32 bytes in base64url'],
    [
      'FAILPOINTS',
      ['x', 'a:b', 'a:b=boom', 'a:b=throw*0'],
      'a list such as create_role:after=crash',
    ],
    ['AUTH_MODE', ['none', 'OPEN', 'open,jwt'], 'one of: open, jwt'],
    ['JWT_SECRET', ['short', 'x'.repeat(31)], 'at least 32 bytes'],
    [
      'JWT_JWKS_URL',
      ['issuer.test', 'http://issuer.test/keys', 'ftp://h/k', 'https://u:p@h/k', 'https://h/k#x'],
      'an https address, or http on this machine',
    ],
    ['JWT_PUBLIC_KEY', ['x', '-----BEGIN PUBLIC KEY-----'], 'a public key in PEM'],
    ['JWT_ROLES_CLAIM', ['x'.repeat(256)], 'the name of a claim'],
    ['JWT_PARTNER_CLAIM', ['x'.repeat(256)], 'the name of a claim'],
    [
      'SHARED_TENANT_DATABASE',
      [
        'postgres',
        'template0',
        'template1',
        'car_x',
        'tpl_1',
        'shd_1',
        'sb_1',
        'a b',
        '1a',
        'é',
      ].concat(['dbtools_tenant_x', 'x'.repeat(64), 'a"b', "a'b"]),
      'the name of a database of its own',
    ],
    [
      'TENANT_SCHEMA_PREFIX',
      [
        'pg_',
        'p',
        'PG_',
        'sb_',
        's',
        'control_',
        'control_plane_x',
        'public',
        'pub',
        'inform',
      ].concat(['a-b', '1a', 'a.b', 'x'.repeat(33), 'é', 'a"']),
      'no beginning of a reserved name',
    ],
    ['CREATE_DATABASE_STRATEGY', ['wal_log', 'COPY'], 'one of: WAL_LOG, FILE_COPY'],
    ['TENANT_MIGRATIONS_DIR', ['/no/such/folder', 'package.json'], 'a folder that exists'],
    [
      'REQUIRED_TENANT_TABLES',
      [',', 'settings,', 'x'.repeat(64), 'ü'.repeat(32)],
      'name of a table',
    ],
    [
      'AVAILABLE_TENANT_FEATURES',
      ['basic', 'basic,analytics', '{"a":1}', '[1]', '[""]', '"basic"', '["a\\n"]', '[', 'null'],
      'JSON list of names',
    ],
    ['DEFAULT_TENANT_FEATURES', ['basic', '[null]', '[["basic"]]'], 'JSON list of names'],
    ['API_KEY_PREFIX', ['t k', 'tk.', 'ü', 'x'.repeat(21)], 'letters, digits'],
    ['LOG_LEVEL', ['verbose', 'INFO'], 'one of: trace, debug, info, warn, error, fatal, silent'],
    ['LOG_FORMAT', ['text'], 'one of: pretty, json'],
  ])('%s refuses what breaks its rule', (name, texts, rule) => {
    for (const text of texts) {
      const { message } = errorOf({ [name]: text });
      expect(message).toContain(`${name}: `);
      expect(message).toContain(rule);
      expect(new Set(named({ [name]: text }))).toEqual(new Set([name]));
    }
  });

  it.each([
    ['mysql://u:swordfish@h/d', 'must have the form postgres://'],
    ['swordfish', 'must have the form postgres://'],
    ['/tmp swordfish', 'must have the form postgres://'],
    ['postgres:swordfish', 'must have the form postgres://'],
    ['postgres://u:swordfish@h:99999/d', '%25 %2F'],
    ['postgres://u:swordfish/x@h/d', '%25 %2F'],
    ['postgres://u:5/swordfish@h/d', '%25 %2F'],
    ['postgres://u:5?swordfish@h/d', '%25 %2F'],
    ['postgres://u:5#swordfish@h/d', '%25 %2F'],
    ['postgres://u:swordfish@h/d#x', '%25 %2F'],
    ['postgres://u:swordfish@h', 'a host and one database'],
    ['postgres://u:swordfish@h/', 'a host and one database'],
    ['postgres://u:swordfish@h/d/e', 'a host and one database'],
    ['postgres:///d', 'a host and one database'],
    ['postgres://u@h/d?password=swordfish', 'in front of the ?'],
    ['postgres://u:swordfish@h/d?host=/tmp', 'in front of the ?'],
    ['postgres://u:swordfish@h/d?sslmode=on', 'an sslmode out of'],
    ['postgres://u:swordfish@h/d?sslmode=verify-ca', 'sslrootcert'],
    ['postgres://u:swordfish@h/d?sslmode=verify-full&sslrootcert=/no/such/file', 'readable'],
  ])('DATABASE_URL refuses %s', (DATABASE_URL, rule) => {
    const { message } = errorOf({ ...served, DATABASE_URL });
    expect(message).toMatch(/^DATABASE_URL: .+$/);
    expect(message).toContain(rule);
    expect(message).not.toContain('swordfish');
  });

  it.each([
    '0.0.0.0',
    '::',
    '10.0.0.1',
    '128.0.0.1',
    'tenantry.example.com',
    'localhost.example.com',
  ])('AUTH_MODE=open is refused on HOST=%s', (HOST) => {
    expect(errorOf({ HOST }).message).toMatch(/^HOST: .*AUTH_MODE=open.*127\.0\.0\.1/);
    expect(errorOf({ ...served, HOST }).message).toMatch(/^HOST: .*AUTH_MODE=open/);
  });

  it('refuses AUTH_MODE=jwt without a way to verify tokens, on any HOST', () => {
    expect(named({ AUTH_MODE: 'jwt' })).toEqual(['AUTH_MODE']);
    expect(named({ ...served, AUTH_MODE: 'jwt', HOST: '0.0.0.0' })).toEqual(['AUTH_MODE']);
  });

  it('wants default features to be available', () => {
    expect(errorOf({ DEFAULT_TENANT_FEATURES: '["basic","gold"]' }).message).toMatch(
      /^DEFAULT_TENANT_FEATURES: .*AVAILABLE_TENANT_FEATURES, which lacks gold;/,
    );
    expect(errorOf({ AVAILABLE_TENANT_FEATURES: '["gold"]' }).message).toMatch(
      /^DEFAULT_TENANT_FEATURES: .*lacks basic, analytics;/,
    );
    const own = { AVAILABLE_TENANT_FEATURES: '["gold"]', DEFAULT_TENANT_FEATURES: '["gold"]' };
    expect(readConfig(own).provisioning.defaultFeatures).toEqual(['gold']);
  });

  it('tells them all at once, those between settings too', () => {
    const error = errorOf({
      DATABASE_URL: url,
      HOST: '0.0.0.0',
      AUTH_MODE: 'open',
      PORT: 'http',
      DB_POOL_MAX: '0',
      CORS_ORIGINS: 'a,https://b,c',
      LOG_LEVEL: 'loud',
      DEFAULT_TENANT_FEATURES: '["gold"]',
      TENANT_MIGRATIONS_DIR: '/no/such/folder',
    });
    expect(error.code).toBe('CONFIG');
    expect(error.problems.map(({ setting }) => setting).sort()).toEqual(
      [
        [
          'CORS_ORIGINS',
          'CORS_ORIGINS',
          'DB_POOL_MAX',
          'DEFAULT_TENANT_FEATURES',
          'ENCRYPTION_KEY',
        ],
        ['HOST', 'LOG_LEVEL', 'PORT', 'TENANT_MIGRATIONS_DIR'],
      ].flat(),
    );
    expect(error.message.split('\n')).toEqual(
      error.problems.map(({ setting, message }) => `${setting}: ${message}`),
    );
    expect(error.message).toContain('CORS_ORIGINS: item 1 ');
    expect(error.message).toContain('CORS_ORIGINS: item 3 ');
  });

  it('tells a broken setting once, and draws no conclusions from it', () => {
    expect(named({ HOST: 'a b', AVAILABLE_TENANT_FEATURES: 'x' }).sort()).toEqual([
      'AVAILABLE_TENANT_FEATURES',
      'HOST',
    ]);
    expect(named({ ...served, ENCRYPTION_KEY: 'x' })).toEqual(['ENCRYPTION_KEY']);
    expect(named({ AUTH_MODE: 'x', HOST: '0.0.0.0' })).toEqual(['AUTH_MODE']);
    // Given, if wrongly: not the embedded default.
    expect(named({ DATABASE_URL: 'x' }).sort()).toEqual([
      'AUTH_MODE',
      'DATABASE_URL',
      'ENCRYPTION_KEY',
    ]);
  });
});

describe('FAILPOINTS', () => {
  it('is refused where anybody but a developer could be served', () => {
    const FAILPOINTS = 'create_role:after=crash';
    expect(readConfig({ FAILPOINTS }).failpoints.rules).toHaveLength(1);
    const message = /^FAILPOINTS: .*AUTH_MODE=open alone/m;
    expect(errorOf({ ...served, AUTH_MODE: 'jwt', FAILPOINTS }).message).toMatch(message);
  });
});

describe('describeConfig', () => {
  it('has every setting by name, and says which are defaults', () => {
    const lines = describeConfig(readConfig({ PORT: '80' })).split('\n');
    expect(lines.map((line) => line.split('=')[0])).toEqual(settingNames);
    expect(lines).toContain('PORT=80');
    expect(lines).toContain('HOST=127.0.0.1 (default)');
    expect(lines).toContain('PUBLIC_URL= (default)');
  });

  it('masks secrets and nothing else', () => {
    const text = describeConfig(
      readConfig({
        ...served,
        DATABASE_URL: `${url}?sslmode=require&sslpassword=swordfish`,
        ENCRYPTION_KEYS_PREVIOUS: generateEncryptionKey(),
      }),
    );
    expect(text).toContain(
      'DATABASE_URL=postgres://operator:***@db.example.com:5432/control?sslmode=require&sslpassword=***\n',
    );
    expect(text).toContain('ENCRYPTION_KEY=***\nENCRYPTION_KEYS_PREVIOUS=***\n');
    expect(text).not.toMatch(/swordfish/);
  });

  it('keeps each setting on its line', () => {
    const config = readConfig({ AVAILABLE_TENANT_FEATURES: '["basic",\n "analytics"]' });
    expect(describeConfig(config).split('\n')).toHaveLength(settingNames.length);
  });

  it('shows no password of a URL, however it is written, and neither do problems', () => {
    // An end of its own, so that it is not found by chance.
    const password = fc.string({ unit: 'grapheme', maxLength: 30 }).map((text) => `${text}zQ7xW`);
    const written = fc.constantFrom(encodeURIComponent, encodeURI, (text: string) => text);
    const behind = fc.constantFrom('', '?sslmode=require', '?sslmode=bad', '#x', '/more');
    fc.assert(
      fc.property(password, written, behind, (secret, write, end) => {
        const DATABASE_URL = `postgres://operator:${write(secret)}@h:5432/d${end}`;
        let text: string;
        try {
          const config = readConfig({ ...served, DATABASE_URL });
          text = describeConfig(config) + JSON.stringify(config.settings);
        } catch (error) {
          expect(error).toBeInstanceOf(ConfigError);
          text = (error as ConfigError).message + JSON.stringify((error as ConfigError).problems);
        }
        expect(text).not.toContain('zQ7xW');
      }),
      { numRuns: 2000 },
    );
  });

  it('takes every password that is percent-encoded', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', minLength: 1 }), (password) => {
        const DATABASE_URL = `postgres://operator:${encodeURIComponent(password)}@h:5432/d`;
        const config = readConfig({ ...served, DATABASE_URL });
        expect(describeConfig(config)).toContain('DATABASE_URL=postgres://operator:***@h:5432/d\n');
      }),
    );
  });

  it('shows no key, and neither do problems', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 20, maxLength: 60 }), (text) => {
        const secret = `zQ7xW${text}`;
        for (const name of ['ENCRYPTION_KEY', 'ENCRYPTION_KEYS_PREVIOUS']) {
          const shown = errorOf({ ...served, [name]: `${secret}!` });
          expect(shown.message + JSON.stringify(shown.problems)).not.toContain('zQ7xW');
        }
      }),
    );
  });
});

describe('the documents', () => {
  const example = readFileSync(join(root, '.env.example'), 'utf8');
  const inExample = [...example.matchAll(/^#?([A-Z][A-Z0-9_]*)=(.*)$/gm)];

  it('.env.example lists exactly the settings there are, all of them commented out', () => {
    expect(inExample.map(([, name]) => name).sort()).toEqual([...settingNames].sort());
    expect(example).not.toMatch(/^[^#\n]/m);
  });

  it('.env.example has the defaults', () => {
    const env = Object.fromEntries(inExample.map(([, name, value]) => [name!, value!]));
    const { settings: _, ...uncommented } = readConfig(env, true);
    expect(readConfig({}, true)).toMatchObject(uncommented);
  });

  it('docs/configuration.md lists exactly the settings there are', () => {
    const document = readFileSync(join(root, 'docs/configuration.md'), 'utf8');
    const names = [...document.matchAll(/^\| `([A-Z0-9_]+)` +\|/gm)].map(([, name]) => name);
    expect(names.sort()).toEqual([...settingNames].sort());
  });
});
