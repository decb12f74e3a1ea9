import { randomBytes } from 'node:crypto';
import { Writable } from 'node:stream';
import pg from 'pg';
import pino from 'pino';
import { inject } from 'vitest';
import { startApp } from '../src/app.ts';
import { readConfig } from '../src/config.ts';
import { generateEncryptionKey } from '../src/crypto/envelope.ts';
import type { StreamTimes } from '../src/http/stream-times.ts';
import type { Failpoints } from '../src/provisioning/step.ts';
import { onServer, withDatabase, withLogin } from './control-template.ts';

/** A control plane of a test file's own, and the gateways on it. */
export interface World {
  /** Connection string of the control plane. */
  readonly controlUrl: string;
  /** `SHARED_TENANT_DATABASE` of its gateways: one of its own, made on first need. */
  readonly sharedDatabase: string;
  /** What its gateways seal with. */
  readonly encryptionKey: string;
  /** Starts a gateway; `settings` by the names of their variables. */
  start(options?: GatewayOptions): Promise<TestGateway>;
  /** Runs SQL on the control plane. */
  query<T extends object>(sql: string, values?: unknown[]): Promise<T[]>;
  /** What exists on the server of this control plane's tenants and operations. */
  leftovers(): Promise<Leftovers>;
  /**
   * Closes gateways still open, fails on connections that stayed, and removes everything that was
   * made: databases, roles, and the control plane itself.
   */
  close(): Promise<void>;
}

export interface GatewayOptions {
  readonly settings?: Readonly<Record<string, string>>;
  readonly failpoints?: Failpoints;
  /** Less patient streams than in production. */
  readonly streamTimes?: Partial<StreamTimes>;
}

export interface TestGateway {
  readonly url: string;
  /** POSTs JSON (or a text as it is) to a path. */
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<Answer>;
  get(path: string, headers?: Record<string, string>): Promise<Answer>;
  /** Runs a GraphQL document; rejects when there are top-level errors. */
  graphql<T = Record<string, unknown>>(document: string, variables?: object): Promise<T>;
  /** All that it logged so far, one JSON object a line. */
  logs(): string;
  close(): Promise<void>;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  /** Parsed; undefined when the answer is no JSON. */
  readonly json: unknown;
  readonly text: string;
}

export interface Leftovers {
  readonly databases: readonly string[];
  readonly roles: readonly string[];
}

export interface WorldOptions {
  /**
   * `limited`: the gateways' admin is no superuser, as on managed servers, and owns the control
   * plane, which is empty until the first gateway starts. SQL of the test itself runs as a superuser.
   */
  readonly admin?: 'superuser' | 'limited';
  /** Superuser's connection string of a server of its own; its control plane is empty, too. */
  readonly serverUrl?: string;
  /** A control plane that is there already, in place of a new one. */
  readonly existing?: ExistingControlPlane;
}

export interface ExistingControlPlane {
  readonly database: string;
  readonly sharedDatabase: string;
  readonly encryptionKey: string;
  /** The admin, who owns it. */
  readonly role: string;
  readonly password: string;
}

/** Clones the migrated control plane; call it in `beforeAll`, and `close` in `afterAll`. */
export async function createWorld({
  admin = 'superuser',
  serverUrl = inject('serverUrl'),
  existing,
}: WorldOptions = {}): Promise<World> {
  const controlPlane = existing ?? (await makeControlPlane(serverUrl, admin));
  const { database, encryptionKey, password, role, sharedDatabase } = controlPlane;
  const superuserUrl = withDatabase(serverUrl, database);
  const asItself = existing === undefined && admin === 'superuser';
  const controlUrl = asItself ? superuserUrl : withLogin(superuserUrl, role, password);
  const gateways = new Set<TestGateway>();
  const pool = new pg.Pool({ connectionString: superuserUrl, max: 2, application_name: 'test' });
  // The server may end a session before it has heard that it should end.
  pool.on('error', () => undefined);

  async function query<T extends object>(sql: string, values: unknown[] = []): Promise<T[]> {
    return (await pool.query<T>(sql, values)).rows;
  }

  return {
    controlUrl,
    sharedDatabase,
    encryptionKey,
    query,

    async start({ settings = {}, failpoints, streamTimes = {} } = {}) {
      const lines: string[] = [];
      const config = readConfig(
        {
          DATABASE_URL: controlUrl,
          ENCRYPTION_KEY: encryptionKey,
          SHARED_TENANT_DATABASE: sharedDatabase,
          AUTH_MODE: 'open',
          PORT: '0',
          GRAPHIQL: 'on',
          INTROSPECTION: 'on',
          RATE_LIMIT_CREATIONS_PER_MINUTE: '0',
          RATE_LIMIT_BATCH_TENANTS_PER_MINUTE: '0',
          STANDBY_DATABASES: '0',
          STANDBY_SCHEMAS: '0',
          RATE_LIMIT_FAILED_CREDENTIALS_PER_MINUTE: '0',
          LOG_FORMAT: 'json',
          LOG_LEVEL: 'trace',
          SHUTDOWN_GRACE_SECONDS: '5',
          ...settings,
        },
        false,
      );
      const log = pino(
        { level: config.log.level },
        new Writable({
          write(chunk: Buffer, _encoding, done) {
            lines.push(chunk.toString());
            done();
          },
        }),
      );
      const app = await startApp(config, {
        log,
        streamTimes,
        ...(failpoints === undefined ? {} : { failpoints }),
      });
      const gateway: TestGateway = {
        url: app.url,
        post: (path, body, headers = {}) =>
          request(`${app.url}${path}`, {
            method: 'POST',
            headers: { 'Content-Type': 'application/json', ...headers },
            body: (Buffer.isBuffer(body) || typeof body === 'string'
              ? body
              : JSON.stringify(body)) as BodyInit,
          }),
        get: (path, headers = {}) => request(`${app.url}${path}`, { headers }),
        async graphql<T>(document: string, variables: object = {}) {
          const answer = await gateway.post('/graphql', { query: document, variables });
          const { data, errors } = answer.json as { data?: T; errors?: unknown[] };
          if (errors !== undefined) throw new Error(`GraphQL errors: ${JSON.stringify(errors)}`);
          return data as T;
        },
        logs: () => lines.join(''),
        async close() {
          if (gateways.delete(gateway)) await app.close();
        },
      };
      gateways.add(gateway);
      return gateway;
    },

    async leftovers() {
      const [databases, roles] = await Promise.all([
        query<{ name: string }>(
          `SELECT datname AS name FROM pg_database JOIN control_plane.tenant_databases d
           ON datname = d.database_name OR datname = 'car_' || replace(d.tenant_id::text, '-', '_')`,
        ),
        query<{ name: string }>(
          `SELECT rolname AS name FROM pg_roles JOIN control_plane.tenant_databases d
           ON rolname IN (d.owner_role, d.login_role, 'svc_' || replace(d.tenant_id::text, '-', '_'))`,
        ),
      ]);
      return {
        databases: databases.map((row) => row.name),
        roles: roles.map((row) => row.name),
      };
    },

    async close() {
      for (const gateway of [...gateways]) await gateway.close();
      try {
        await refuseLeaks(pool);
      } finally {
        const made = await everythingMade(pool);
        await pool.end();
        await onServer(serverUrl, async (client) => {
          for (const name of made.databases) {
            await client.query(`ALTER DATABASE "${name}" IS_TEMPLATE false`);
            await client.query(`DROP DATABASE "${name}" WITH (FORCE)`);
          }
          for (const name of made.roles) await client.query(`DROP ROLE IF EXISTS "${name}"`);
          await client.query(`DROP DATABASE ${database} WITH (FORCE)`);
          await client.query(`DROP ROLE IF EXISTS ${role}`);
        });
      }
    },
  };
}

async function makeControlPlane(
  serverUrl: string,
  admin: 'superuser' | 'limited',
): Promise<ExistingControlPlane> {
  const isShared = serverUrl === inject('serverUrl');
  const suffix = randomBytes(6).toString('hex');
  const database = `test_control_${suffix}`;
  const role = `test_admin_${suffix}`;
  await onServer(serverUrl, async (client) => {
    if (admin === 'superuser') {
      const template = isShared ? inject('controlTemplate') : 'template1';
      await client.query(`CREATE DATABASE ${database} TEMPLATE ${template}`);
      return;
    }
    await client.query(`CREATE ROLE ${role} LOGIN CREATEDB CREATEROLE PASSWORD '${suffix}'`);
    await client.query(`CREATE DATABASE ${database} OWNER ${role}`);
  });
  if (admin === 'superuser' && isShared) {
    // A copy of a control plane would take what the others make for its own.
    await onServer(withDatabase(serverUrl, database), (client) =>
      client.query('UPDATE control_plane.installation SET id = gen_random_uuid()'),
    );
  }
  const sharedDatabase = `test_shared_${suffix}`;
  const encryptionKey = generateEncryptionKey();
  return { database, sharedDatabase, encryptionKey, role, password: suffix };
}

async function request(url: string, init: RequestInit): Promise<Answer> {
  const response = await fetch(url, { ...init, redirect: 'manual' });
  const text = await response.text();
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    json = undefined;
  }
  return { status: response.status, headers: response.headers, json, text };
}

/** Every session of a gateway has ended soon after it closed; one that stays is a leak. */
async function refuseLeaks(pool: pg.Pool): Promise<void> {
  const deadline = Date.now() + 10_000;
  for (;;) {
    const { rows } = await pool.query<{ application_name: string; state: string; query: string }>(
      `SELECT application_name, state, left(query, 80) AS query FROM pg_stat_activity
       WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
         AND (application_name LIKE 'tenantry%' AND datname = current_database()
           OR datname IN (SELECT database_name FROM control_plane.tenant_databases))`,
    );
    if (rows.length === 0) return;
    if (Date.now() > deadline) throw new Error(`leaked connections: ${JSON.stringify(rows)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function everythingMade(pool: pg.Pool): Promise<Leftovers> {
  const databases = await pool.query<{ name: string }>(
    `SELECT datname AS name FROM pg_database WHERE datname IN
       (SELECT database_name FROM control_plane.tenant_databases WHERE status <> 'DROPPED'
        UNION SELECT 'car_' || replace(tenant_id::text, '-', '_') FROM control_plane.tenant_databases
        UNION SELECT database_name FROM control_plane.templates
        UNION SELECT database_name FROM control_plane.standbys WHERE isolation = 'DATABASE'
        UNION SELECT unnest(ARRAY[database_name, 'shd_' || replace(id::text, '-', '_')])
          FROM control_plane.shared_databases)`,
  );
  const roles = await pool.query<{ name: string }>(
    `SELECT rolname AS name FROM pg_roles WHERE rolname IN
       (SELECT login_role FROM control_plane.tenant_databases
        UNION SELECT owner_role FROM control_plane.tenant_databases
        UNION SELECT login_role FROM control_plane.standbys
        UNION SELECT owner_role FROM control_plane.standbys
        UNION SELECT owner_role FROM control_plane.templates
        UNION SELECT 'tps_' || replace(id::text, '-', '_') FROM control_plane.templates
        UNION SELECT 'svc_' || replace(id::text, '-', '_') FROM (
          SELECT tenant_id AS id FROM control_plane.tenant_databases
          UNION SELECT id FROM control_plane.standbys) places
        -- Another control plane of the server may have one of this name.
        UNION SELECT group_role FROM control_plane.shared_databases JOIN pg_roles r
          ON rolname = group_role AND shobj_description(r.oid, 'pg_authid') LIKE '%:' || id)`,
  );
  return {
    databases: databases.rows.map((row) => row.name),
    roles: roles.rows.map((row) => row.name),
  };
}
