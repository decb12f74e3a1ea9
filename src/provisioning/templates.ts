import { randomUUID } from 'node:crypto';
import type { Knex } from 'knex';
import type { Logger } from 'pino';
import {
  appliedTenantMigrations,
  deleteTemplate,
  findReadyTemplate,
  insertTemplate,
  listStaleTemplates,
  recordTenantMigrations,
  setTemplateStatus,
  touchTemplates,
  type Template,
} from '../control/templates.ts';
import type { Cluster } from '../postgres/cluster.ts';
import {
  closeAsTemplate,
  compact,
  createClosedDatabase,
  dropDatabase,
  findDatabase,
  openDatabase,
  type DatabaseStrategy,
} from '../postgres/databases.ts';
import { identifierFromId, quoteIdentifier, quoteLiteral } from '../postgres/identifiers.ts';
import { MigrationError, type MigrationSet } from '../postgres/migrations.ts';
import { findUnmovable } from '../postgres/hand-over.ts';
import { createServiceLogin, type AdminClient } from '../postgres/roles.ts';
import { templateMarker, templateRoles, tenantLock } from './names.ts';
import { removeRoles } from './role-removal.ts';
import { migratePlace, takeOverPublicSchema } from './tenant-migrations.ts';
import { unblocked } from './unblocked.ts';
import type { ServicePlace, TenantSessions } from './tenant-session.ts';

export interface TemplatesOptions {
  readonly control: Knex;
  /** Id of the control plane. */
  readonly installation: string;
  readonly tenantMigrations: MigrationSet;
  readonly tenantSessions: TenantSessions;
  readonly strategy: DatabaseStrategy;
  /** Schema of the operator's extensions. */
  readonly extensionsSchema: string;
  /** Milliseconds that the migrations of one template may take. */
  readonly migrationTimeoutMs: number;
  readonly log: Logger;
}

/** The migrated databases that tenants are copied from: one for each cluster and migration content. */
export interface Templates {
  /**
   * The cluster's current template, built when there is none yet. Null when the tenant migrations
   * fail: then each create runs them in its own database, and tells its caller which one failed.
   */
  current(cluster: Cluster): Promise<Template | null>;
  /** Lets the next `current` look anew. */
  forget(cluster: Cluster): void;
  /**
   * Says that this instance is there and uses its templates, and drops those on a cluster that nobody
   * uses any more. To be called every minute.
   */
  tend(cluster: Cluster): Promise<void>;
}

/**
 * @throws MigrationError when a migration's content changed after it was applied
 */
export async function refuseChangedMigrations(control: Knex, set: MigrationSet): Promise<void> {
  const applied = await appliedTenantMigrations(control);
  for (const file of set.files) {
    const before = applied.get(file.name);
    if (before !== undefined && !before.equals(file.contentHash)) {
      throw new MigrationError(
        file.name,
        `migration ${file.name} was changed after it was applied; add a new one instead`,
      );
    }
  }
}

/** Keeps the templates of an instance. */
export function createTemplates(options: TemplatesOptions): Templates {
  const known = new Map<string, Promise<Template | null>>();
  return {
    current(cluster) {
      let template = known.get(cluster.name);
      if (template === undefined) {
        template = ensure(cluster, options);
        known.set(cluster.name, template);
        // A cluster that was down is asked again by the next create.
        template.catch(() => known.delete(cluster.name));
      }
      return template;
    },
    forget(cluster) {
      known.delete(cluster.name);
    },
    async tend(cluster) {
      const { control, tenantMigrations } = options;
      await touchTemplates(control, tenantMigrations.contentHash);
      if ((await stale(control, cluster, tenantMigrations)).length === 0) return;
      await cluster.exclusively(
        templateLock,
        async (client) => {
          await dropStale(client, cluster, options, {
            only: () => true,
            until: Date.now() + tendingMs,
          });
        },
        undefined,
        tendingIdleMs,
      );
    },
  };
}

const templateLock = 'tenantry:templates';
/** Milliseconds that may go by before no further template is dropped. */
const tendingMs = 5_000;
const startingMs = 2_000;
// The session that holds the lock waits while others take rights away.
const tendingIdleMs = 60_000;
// Much longer than an instance that lives goes without saying so.
const idleSeconds = 15 * 60;

function stale(control: Knex, cluster: Cluster, set: MigrationSet): Promise<Template[]> {
  return listStaleTemplates(control, cluster.name, set.contentHash, idleSeconds);
}

interface CleanUp {
  /** Which of the unused templates. */
  readonly only: (template: Template) => boolean;
  /** Epoch milliseconds after which no other template is begun with. */
  readonly until: number;
}

/**
 * Drops unused templates, under the lock: what is half made now, no instance makes any more. One that cannot
 * be dropped hinders neither the others nor the caller: it stays recorded as DROPPING, and `tend` tries
 * it again.
 */
async function dropStale(
  client: AdminClient,
  cluster: Cluster,
  { control, log, tenantMigrations }: TemplatesOptions,
  { only, until }: CleanUp,
): Promise<void> {
  const unused = (await stale(control, cluster, tenantMigrations)).filter(only);
  // In any order, so that over some turns each is tried.
  for (const template of unused.toSorted(() => Math.random() - 0.5)) {
    if (Date.now() > until) return;
    try {
      await forgo(client, cluster, control, template);
    } catch (error) {
      const message = 'an unused template could not be dropped; it is tried again';
      log.warn({ err: error, cluster: cluster.name, database: template.databaseName }, message);
    }
  }
}

/** Drops a template, and forgets it once nothing of it is left. */
async function forgo(
  client: AdminClient,
  cluster: Cluster,
  control: Knex,
  template: Pick<Template, 'id' | 'databaseName'>,
): Promise<void> {
  await setTemplateStatus(control, template.id, 'DROPPING');
  if (await drop(client, cluster, template)) await deleteTemplate(control, template.id);
}

async function ensure(cluster: Cluster, options: TemplatesOptions): Promise<Template | null> {
  const { control, log, migrationTimeoutMs, tenantMigrations } = options;
  // One instance builds, the others wait for it and find it.
  const work = async (client: AdminClient): Promise<Template | null> => {
    await touchTemplates(control, tenantMigrations.contentHash);
    const ready = await findReadyTemplate(control, cluster.name, tenantMigrations.contentHash);
    if (ready !== null && (await findDatabase(client, ready.databaseName)) !== null) return ready;
    // A record without a database is in the way of the next one.
    if (ready !== null) await setTemplateStatus(control, ready.id, 'DROPPING');
    await dropStale(client, cluster, options, {
      // What could not be dropped before holds no start up again.
      only: ({ id, status }) => status !== 'DROPPING' || id === ready?.id,
      until: Date.now() + startingMs,
    });
    try {
      return await build(cluster, client, options);
    } catch (error) {
      if (!(error instanceof MigrationError || isTimeout(error))) throw error;
      log.error({ err: error, cluster: cluster.name }, 'the tenant migrations fail');
      return null;
    }
  };
  // The lock's session waits while the migrations run on another.
  return cluster.exclusively(templateLock, work, undefined, migrationTimeoutMs + 10_000);
}

// All of the admin's on the one session that holds the lock: a second one, while the first waits for it,
// would hang where few connections are allowed.
async function build(
  cluster: Cluster,
  client: AdminClient,
  options: TemplatesOptions,
): Promise<Template> {
  const { control, installation, tenantMigrations, strategy } = options;
  const id = randomUUID();
  const roles = templateRoles(id);
  const template = {
    id,
    cluster: cluster.name,
    databaseName: identifierFromId('tpl_', id),
    ownerRole: roles.owner,
    migrationVersion: tenantMigrations.version,
  };
  const marker = templateMarker(id, installation);
  await insertTemplate(control, { ...template, contentHash: tenantMigrations.contentHash });
  try {
    await client.query(`CREATE ROLE ${quoteIdentifier(roles.owner)} NOLOGIN;
      COMMENT ON ROLE ${quoteIdentifier(roles.owner)} IS ${quoteLiteral(marker)}`);
    const lock = tenantLock(id);
    await createServiceLogin(client, roles, { marker, lock });
    await createClosedDatabase(client, { name: template.databaseName, strategy });
    await openDatabase(client, {
      name: template.databaseName,
      finalName: template.databaseName,
      owner: template.ownerRole,
      marker,
    });
    await cluster.inDatabase(template.databaseName, (inside) =>
      takeOverPublicSchema(inside, template.ownerRole),
    );
    await fill(client, options, {
      cluster,
      database: template.databaseName,
      searchPath: ['public', options.extensionsSchema],
      ...roles,
      marker,
      lock,
    });
    await closeAsTemplate(client, template.databaseName);
  } catch (error) {
    // The error that made it fail is the one to throw; what stays is dropped by `tend`.
    await forgo(client, cluster, control, template).catch(() => undefined);
    throw error;
  }
  await recordTenantMigrations(control, tenantMigrations.files);
  await setTemplateStatus(control, id, 'READY');
  return { ...template, status: 'READY' };
}

// A statement of a rewrite reads a catalog's name and no more.
const compactMaxBytes = 1024 * 1024;

/**
 * Migrates and compacts a new template.
 *
 * @throws MigrationError also for what could not be handed over to the tenants that are copied from it
 */
async function fill(
  client: AdminClient,
  options: TemplatesOptions,
  place: ServicePlace,
): Promise<void> {
  const { migrationTimeoutMs: statementTimeoutMs, tenantMigrations, tenantSessions } = options;
  const { cluster, database, owner } = place;
  const admin: Cluster['admin'] = (work) => work(client);
  const signal = AbortSignal.timeout(statementTimeoutMs);
  await migratePlace(tenantSessions, tenantMigrations, {
    place,
    schema: null,
    statementTimeoutMs,
    admin,
    signal,
  });
  const unmovable = await cluster.inDatabase(database, (inside) => findUnmovable(inside, owner));
  if (unmovable !== null) {
    throw new MigrationError(
      null,
      `the tenant migrations make ${unmovable} for the role that runs them, which cannot be handed over to a tenant`,
    );
  }
  await tenantSessions.query(
    place,
    {
      applicationName: 'tenantry template',
      statementTimeoutMs,
      maxBytes: compactMaxBytes,
      admin,
      signal,
    },
    (session) => compact(session, 'CONTENT'),
  );
  await cluster.inDatabase(database, (inside) => compact(inside, 'CATALOGS'));
}

/** @returns false where others hold on to its roles: the reconciler's report shows them */
async function drop(
  client: AdminClient,
  cluster: Cluster,
  template: Pick<Template, 'id' | 'databaseName'>,
): Promise<boolean> {
  const { owner, service } = templateRoles(template.id);
  const roles = [service, owner];
  const withoutBlockers = unblocked(cluster, client);
  await dropDatabase(client, template.databaseName, { roles, withoutBlockers });
  const left = await removeRoles({
    cluster,
    roles,
    exclusively: (work) => work(client),
    withinMs: 2_000,
  });
  return left.length === 0;
}

function isTimeout(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'TimeoutError';
}
