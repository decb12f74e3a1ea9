import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join, parse } from 'node:path';
import { pathToFileURL } from 'node:url';
import knexPackage, { type Knex } from 'knex';
import type pg from 'pg';
import { cutConnection } from './connection.ts';
import { isTransient } from './error-codes.ts';
import { pinByVersion } from './pinned-settings.ts';
import { AnswerTooLargeError, limitBytes } from './session.ts';

/** One migration file. */
export interface MigrationFile {
  /** File name without its ending: what the ledger records. */
  readonly name: string;
  readonly path: string;
  readonly contentHash: Buffer;
  readonly migration: Knex.Migration;
}

/** A folder of Knex migrations, loaded once. */
export interface MigrationSet {
  readonly files: readonly MigrationFile[];
  /** SHA-256 over the names and contents in order. */
  readonly contentHash: Buffer;
  /** Name of the last file; null when there is none. */
  readonly version: string | null;
}

/** A migration that cannot be used or that failed; `migration` is its name (null: the folder). */
export class MigrationError extends Error {
  override readonly name = 'MigrationError';
  readonly code = 'MIGRATION';
  readonly migration: string | null;
  /** What it did, for callers: goes on from the migration's name. */
  readonly deed: string;

  constructor(
    migration: string | null,
    message: string,
    { deed = 'failed', ...options }: ErrorOptions & { readonly deed?: string } = {},
  ) {
    super(message, options);
    this.migration = migration;
    this.deed = deed;
  }
}

/** What a migration file exports, as Knex documents it; its types lack `config`. */
type MigrationModule = Partial<Knex.Migration> & {
  readonly config?: { readonly transaction?: boolean };
};

const endings: ReadonlySet<string> = new Set(['.ts', '.mts', '.js', '.mjs', '.cjs']);

/**
 * Loads the migrations of a folder, in the order of their names.
 *
 * @throws MigrationError when the folder cannot be read, a file does not load or is no migration, or
 *   two files have one name
 */
export async function loadMigrations(folder: string): Promise<MigrationSet> {
  const entries = await readdir(folder).catch((error: unknown) => {
    throw new MigrationError(null, `the folder ${folder} cannot be read`, { cause: error });
  });
  const names = entries
    .filter((entry) => endings.has(parse(entry).ext) && !entry.endsWith('.d.ts'))
    .sort();
  const files = await Promise.all(names.map((entry) => loadFile(join(folder, entry))));
  const total = createHash('sha256');
  files.forEach((file, index) => {
    if (files[index - 1]?.name === file.name) {
      throw new MigrationError(file.name, `two migrations are called ${file.name}`);
    }
    total.update(`${file.name}\0`).update(file.contentHash);
  });
  return { files, contentHash: total.digest(), version: files.at(-1)?.name ?? null };
}

async function loadFile(path: string): Promise<MigrationFile> {
  const { name } = parse(path);
  const content = await readFile(path);
  let loaded: MigrationModule & { readonly default?: MigrationModule };
  try {
    loaded = (await import(pathToFileURL(path).href)) as typeof loaded;
  } catch (error) {
    throw new MigrationError(name, `migration ${name} does not load: ${messageOf(error)}`, {
      cause: error,
    });
  }
  const { up, down, config } = loaded.up === undefined ? (loaded.default ?? loaded) : loaded;
  if (typeof up !== 'function') {
    throw new MigrationError(name, `migration ${name} has no function up`);
  }
  if (config?.transaction === false) {
    // Killed half-way, it leaves its changes and a lock behind that nothing releases.
    throw new MigrationError(name, `migration ${name} sets transaction: false, which is refused`);
  }
  return {
    name,
    path,
    contentHash: createHash('sha256').update(content).digest(),
    migration: { up, down: down ?? (() => Promise.resolve()) },
  };
}

export interface MigrateOptions {
  /** What the migrations make belongs to the role that its sessions work as. */
  readonly connection: pg.ClientConfig;
  /** Schema of the ledger tables; absent: the connection's first. */
  readonly ledgerSchema?: string;
  /** All of them in one transaction; absent: each in one of its own, as Knex does. */
  readonly oneTransaction?: boolean;
  /** What a migration may do, where that is less than the server allows. */
  readonly rules?: MigrationRules;
  /** Called once the session is open; nothing is done before it resolves. */
  readonly connected?: (session: pg.ClientBase) => Promise<void>;
  /** Of all that the server sends: a session that gets more is cut. */
  readonly maxBytes?: number;
  /** When it aborts, the connection is cut. */
  readonly signal?: AbortSignal;
}

/** Rules that each migration is checked against. */
export interface MigrationRules {
  /** Looks at what a migration did. A rejection is that migration's error. */
  readonly inspect: (session: pg.ClientBase) => Promise<void>;
  /** What a migration did that failed with this error; undefined: it failed. */
  readonly deedOf: (error: unknown) => string | undefined;
}

/**
 * Brings one database to the newest migration, over one connection of its own that ends afterwards.
 * Whoever else migrates this database waits. Knex's own lock, found set, is that of a run that was
 * killed, and is released.
 *
 * @throws MigrationError naming the migration that failed; errors that may pass as they are; the
 *   reason of the signal
 */
export async function migrate(set: MigrationSet, options: MigrateOptions): Promise<void> {
  const { maxBytes, oneTransaction = false, rules, signal } = options;
  signal?.throwIfAborted();
  let session: pg.Client | undefined;
  let tooLarge = (): boolean => false;
  const knex = knexPackage.knex({
    client: 'pg',
    connection: options.connection as Knex.PgConnectionConfig,
    pool: {
      min: 0,
      max: 1,
      afterCreate: (client: pg.Client, done: (error: Error | null, client: pg.Client) => void) => {
        session = client;
        client.on('error', () => undefined); // the query under way rejects when it is cut
        if (maxBytes !== undefined) tooLarge = limitBytes(client, maxBytes);
        pinByVersion(client);
        prepareSession(client, options, signal).then(
          () => {
            done(null, client);
          },
          (error: unknown) => {
            done(error as Error, client);
          },
        );
      },
    },
    log: { warn: () => undefined, error: () => undefined, deprecate: () => undefined },
  });
  const aborted = Promise.withResolvers<never>();
  const cut = (): void => {
    if (session !== undefined) cutConnection(session);
    // A migration that waits for something else than the server would not notice.
    aborted.reject(signal?.reason as Error);
  };
  signal?.addEventListener('abort', cut, { once: true });
  const config: Knex.MigratorConfig = {
    migrationSource: asSource(set, rules, () => sessionOf(session)),
    ...(options.ledgerSchema === undefined ? {} : { schemaName: options.ledgerSchema }),
  };
  const work = oneTransaction
    ? knex.transaction((trx) => toNewest(trx, config))
    : toNewest(knex, config);
  try {
    await Promise.race([work, aborted.promise]);
  } catch (error) {
    if (tooLarge() && maxBytes !== undefined) throw new AnswerTooLargeError(maxBytes);
    throw error;
  } finally {
    signal?.removeEventListener('abort', cut);
    work.catch(() => undefined);
    const closed = knex.destroy();
    // What was cut may never give its connection back to the pool.
    if (signal?.aborted !== true) await closed;
  }
}

function sessionOf(session: pg.Client | undefined): pg.Client {
  if (session === undefined) throw new Error('a transaction without a session');
  return session;
}

async function toNewest(knex: Knex, config: Knex.MigratorConfig): Promise<void> {
  if (await isLocked(knex, config.schemaName)) await knex.migrate.forceFreeMigrationsLock(config);
  await knex.migrate.latest(config);
}

/**
 * Takes the lock that keeps others from migrating this database. It is the session's, so it goes when
 * that ends: a run that was cut off holds it for as long as the server goes on with it.
 */
async function prepareSession(
  client: pg.Client,
  { connected, oneTransaction = false }: MigrateOptions,
  signal: AbortSignal | undefined,
): Promise<void> {
  signal?.throwIfAborted();
  await connected?.(client);
  // Tenants that share a database could take it there: their migrations are kept apart before.
  if (oneTransaction) return;
  await client.query(
    "SELECT pg_catalog.pg_advisory_lock(pg_catalog.hashtextextended('tenantry:migrations', 0))",
  );
}

async function isLocked(knex: Knex, schema: string | undefined): Promise<boolean> {
  const builder = schema === undefined ? knex.schema : knex.schema.withSchema(schema);
  if (!(await builder.hasTable('knex_migrations_lock'))) return false;
  const table = knex<{ is_locked: number }>('knex_migrations_lock');
  const row = await (schema === undefined ? table : table.withSchema(schema)).first('is_locked');
  return row?.is_locked === 1;
}

function asSource(
  set: MigrationSet,
  rules: MigrationRules | undefined,
  session: () => pg.ClientBase,
): Knex.MigrationSource<MigrationFile> {
  return {
    getMigrations: () => Promise.resolve([...set.files]),
    getMigrationName: (file) => file.name,
    getMigration: (file) =>
      Promise.resolve({
        ...file.migration,
        up: async (knex: Knex) => {
          try {
            await file.migration.up(knex);
            await rules?.inspect(session());
          } catch (error) {
            if (isTransient(error)) throw error; // no fault of the migration
            throw new MigrationError(
              file.name,
              `migration ${file.name} failed: ${messageOf(error)}`,
              { cause: error, ...deedOf(rules, error) },
            );
          }
        },
      }),
  };
}

function deedOf(rules: MigrationRules | undefined, error: unknown): { deed?: string } {
  const deed = rules?.deedOf(error);
  return deed === undefined ? {} : { deed };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
