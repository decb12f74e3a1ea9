import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { databaseStrategies } from '../postgres/databases.ts';
import { parseFailpoints } from '../provisioning/failpoints.ts';
import { isExtensionsSchema, isSchemaPrefix, isSharedDatabaseName } from '../provisioning/names.ts';
import { clusterList, maskClusters } from './clusters.ts';
import {
  whole,
  oneOf,
  flag,
  features,
  keyPrefix,
  databaseUrl,
  masked,
  maskUrl,
  one,
  list,
  host,
  publicUrl,
  origin,
  encryptionKey,
  nameIf,
  tableName,
  folder,
} from './rules.ts';
import { claimName, jwksUrl, publicKey, tokenSecret } from './keys.ts';
import { optional, optionalList, setting, type Setting, type Start } from './setting.ts';

/** The settings, as groups of names in the code. */
export type Groups = typeof groups;

const onWhenEmbedded = ({ embedded }: Start) => (embedded ? 'on' : 'off');
const ownMigrations = () => fileURLToPath(new URL('../../tenant-migrations', import.meta.url));
const knownFeatures = 'basic analytics reporting advanced_security api_access webhooks'.split(' ');
const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
const keyRule = '32 bytes in base64url, such as `npm run -s generate-key` prints';
const dayInSeconds = 86_400;
// Node's timers (milliseconds) and PostgreSQL's settings end here.
const int32Max = 2_147_483_647;

/** Every setting, in groups: the one table. */
export const groups = {
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
  /** The servers that hold tenants: `list`, or the one the others describe, or the control plane's. */
  clusters: {
    list: optional('CLUSTERS', clusterList(), maskClusters),
    host: optional(
      'TENANT_DB_HOST',
      one(host, 'an address or host name, without scheme, port or brackets'),
    ),
    port: optional('TENANT_DB_PORT', whole(1, 65_535)),
    user: optional('TENANT_DB_USER', z.string()),
    /** A secret. */
    password: optional('TENANT_DB_PASSWORD', z.string(), masked),
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
    /** How tokens are proved: exactly one of these with `jwt`, at most one with `open`. */
    jwksUrl: optional('JWT_JWKS_URL', one(jwksUrl, 'an https address, or http on this machine')),
    publicKey: optional(
      'JWT_PUBLIC_KEY',
      one(
        publicKey,
        'a public key in PEM (SPKI): RSA of at least 2048 bits, P-256, P-384, P-521 or Ed25519',
      ),
    ),
    /** Of HS256. */
    secret: optional('JWT_SECRET', one(tokenSecret, 'at least 32 bytes'), masked),
    issuer: optional('JWT_ISSUER', z.string()),
    audience: optional('JWT_AUDIENCE', z.string()),
    rolesClaim: setting('JWT_ROLES_CLAIM', one(claimName, 'the name of a claim'), 'roles'),
    partnerClaim: setting('JWT_PARTNER_CLAIM', one(claimName, 'the name of a claim'), 'partner'),
    /** Of each client address; 0: no limit. */
    failuresPerMinute: setting(
      'RATE_LIMIT_FAILED_CREDENTIALS_PER_MINUTE',
      whole(0, 1_000_000),
      '100',
    ),
  },
  provisioning: {
    /** Of each caller; 0: no limit. */
    creationsPerMinute: setting('RATE_LIMIT_CREATIONS_PER_MINUTE', whole(0, 1_000_000), '10'),
    /** Tenants in batches, of each caller; 0: no limit. */
    batchTenantsPerMinute: setting(
      'RATE_LIMIT_BATCH_TENANTS_PER_MINUTE',
      whole(0, 1_000_000),
      '200',
    ),
    maxTenantsPerBatch: setting('MAX_TENANTS_PER_BATCH', whole(1, 500), '50'),
    /** Items at once: of one batch over all instances, and of all batches on one instance. */
    batchConcurrency: setting('BATCH_CONCURRENCY', whole(1, 100), '5'),
    /** Items of a batch that have not begun by then are cancelled. */
    batchTimeoutSeconds: setting('BATCH_PROCESSING_TIMEOUT', whole(1, dayInSeconds), '300'),
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
    /** How long a key works on after its rotation. */
    apiKeyOverlapSeconds: setting('API_KEY_OVERLAP_SECONDS', whole(0, int32Max), '86400'),
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
    /** In each cluster, for the tenants of SCHEMA isolation. */
    sharedDatabase: setting(
      'SHARED_TENANT_DATABASE',
      one(
        nameIf(isSharedDatabaseName),
        'the name of a database of its own: 1 to 63 letters, digits, _ and -, not postgres, template0 or template1, and not beginning like a tenant’s (car_, dbtools_tenant_, tpl_, shd_, sb_)',
      ),
      'tenants_shared',
    ),
    /** In front of the slug in generated names of schemas. */
    schemaPrefix: setting(
      'TENANT_SCHEMA_PREFIX',
      one(
        nameIf(isSchemaPrefix),
        '1 to 32 letters, digits and _, not beginning with a digit, and no beginning of a reserved name (public, information_schema, pg_, sb_, tpl_, control_plane)',
      ),
      'tenant_',
    ),
    /** Of the operator's extensions: on every tenant's search path, behind its own. */
    extensionsSchema: setting(
      'SHARED_EXTENSIONS_SCHEMA',
      one(
        nameIf(isExtensionsSchema),
        'the name of a schema of its own: 1 to 63 letters, digits and _, not beginning with a digit, and no reserved name (public, information_schema, pg_, sb_, tpl_, control_plane)',
      ),
      'extensions',
    ),
    createDatabaseStrategy: setting(
      'CREATE_DATABASE_STRATEGY',
      oneOf(databaseStrategies),
      'WAL_LOG',
    ),
    /** Connections at once of each tenant's login. */
    tenantConnectionLimit: setting('TENANT_CONNECTION_LIMIT', whole(1, 262_143), '20'),
    /** 0: no limit. */
    tenantStatementTimeoutMs: setting('TENANT_STATEMENT_TIMEOUT_MS', whole(0, int32Max), '0'),
    /** Days from a soft delete to the purge. */
    deletionRetentionDays: setting('DELETION_RETENTION_DAYS', whole(0, 36_500), '30'),
  },
  audit: {
    /** 0: kept. */
    retentionDays: setting('AUDIT_RETENTION_DAYS', whole(0, 36_500), '0'),
  },
  /** Comparing the clusters with the registry; seconds. */
  reconcile: {
    intervalSeconds: setting('RECONCILE_INTERVAL_SECONDS', whole(1, dayInSeconds), '300'),
    graceSeconds: setting('RECONCILE_GRACE_SECONDS', whole(0, 30 * dayInSeconds), '600'),
  },
  /** How many of each kind every cluster keeps ready; 0: none. */
  standbys: {
    DATABASE: setting('STANDBY_DATABASES', whole(0, 100), '4'),
    SCHEMA: setting('STANDBY_SCHEMAS', whole(0, 1000), '4'),
  },
  /** Where an instance fails on purpose: for tests. */
  failpoints: {
    rules: optional(
      'FAILPOINTS',
      one(
        parseFailpoints,
        'a list such as create_role:after=crash;verify_connection:before=throw*2, of the actions crash, throw, throw-passing and pause',
      ),
    ),
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
