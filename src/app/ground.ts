// The control plane and the clusters, and what is made of them.
import { fileURLToPath } from 'node:url';
import type { Logger } from 'pino';
import { configuredClusters, openClusters } from './clusters.ts';
import { embeddedUrl } from './embedded.ts';
import {
  blameDatabase,
  blameMigrations,
  refuseEmptyFolder,
  openKeyRing,
  refuseControlAsShared,
  warnOfUnknownClusters,
} from './start-checks.ts';
import type { Config } from '../config.ts';
import { controlSchema, openControl } from '../control/database.ts';
import { installationId } from '../control/installation.ts';
import { migrateControl } from '../control/migrate.ts';
import { createOperationQueue, queueSchema } from '../jobs/operation-queue.ts';
import { connectionOptions } from '../postgres/connection.ts';
import { loadMigrations } from '../postgres/migrations.ts';
import { checkServer } from '../postgres/server-check.ts';
import { createEventHints, type EventHints } from '../progress/event-hints.ts';
import { createEventLog } from '../progress/event-log.ts';
import { createClusterPreparation } from '../provisioning/cluster-preparation.ts';
import { createClusterWatch } from '../provisioning/cluster-watch.ts';
import { createNeighbours } from '../provisioning/neighbours.ts';
import { createJointActivation } from '../provisioning/steps/activate.ts';
import { createPrecedence } from '../provisioning/precedence.ts';
import type { Failpoints, StepServices } from '../provisioning/step.ts';
import { createSharedDatabases } from '../provisioning/shared-databases.ts';
import { createTenantRights } from '../provisioning/tenant-rights.ts';
import { createTenantSessions } from '../provisioning/tenant-session.ts';
import { createTemplates, refuseChangedMigrations } from '../provisioning/templates.ts';
import type { ConfiguredClusters } from './clusters.ts';
import type { EventLog } from '../progress/event-log.ts';

/** What the start hands to what it makes first. */
export interface GroundOptions {
  readonly log: Logger;
  readonly failpoints: Failpoints;
  readonly signal: AbortSignal;
  /** For what may wait on others: rejects when the start is broken off. */
  readonly orStopped: <T>(work: Promise<T>) => Promise<T>;
}

export interface Ground {
  readonly services: StepServices;
  readonly eventLog: EventLog;
  readonly hints: EventHints;
  readonly configured: ConfiguredClusters;
  readonly databaseUrl: string;
  /** Newest migration of the control plane. */
  readonly controlVersion: string | null;
}

const controlMigrations = fileURLToPath(new URL('../../migrations', import.meta.url));

/**
 * What everything else stands on: the control plane, brought up to date, and the clusters, looked at.
 */
export async function openGround(
  config: Config,
  { log, failpoints, signal, orStopped }: GroundOptions,
  stack: AsyncDisposableStack,
): Promise<Ground> {
  const { database, provisioning, tenants } = config;
  const tenantMigrations = await loadMigrations(tenants.migrationsFolder).catch(blameMigrations);
  refuseEmptyFolder(config, tenantMigrations);

  const databaseUrl = database.url ?? (await embeddedUrl(config, { log, signal }, stack));
  const configured = configuredClusters(config, databaseUrl);
  // Whether its server holds tenants is found out with the clusters: they may be elsewhere.
  const schemas = [controlSchema, queueSchema];
  const use = { controlPlane: true, schemas, tenants: configured.own };
  await orStopped(checkServer(databaseUrl, use));
  const connection = connectionOptions(databaseUrl, {
    applicationName: 'tenantry control plane',
    statementTimeoutMs: 30_000,
  });
  const controlVersion = await orStopped(
    migrateControl(connection, controlMigrations).catch(blameDatabase(config)),
  );
  const control = openControl({
    connection,
    poolMax: database.poolMax,
    poolTimeoutMs: database.poolTimeoutMs,
  });
  stack.defer(() => control.destroy());
  const keyRing = await openKeyRing(config, control);
  await refuseChangedMigrations(control, tenantMigrations).catch(blameMigrations);

  const clusters = openClusters(config, configured);
  stack.defer(async () => {
    await Promise.all(Array.from(clusters.values(), (cluster) => cluster.close()));
  });
  refuseControlAsShared(config, clusters.values());

  const queue = createOperationQueue({
    control,
    leaseSeconds: provisioning.takeoverSeconds,
    onError: (error) => {
      log.warn({ err: error }, 'the job queue reports an error');
    },
  });
  const hints = createEventHints({
    control,
    onError: (error) => {
      log.warn({ err: error }, 'listeners cannot be notified of progress; they find it by looking');
    },
  });
  const eventLog = createEventLog({
    control,
    hints,
    onError: (error) => {
      log.warn({ err: error }, 'progress events could not be written');
    },
  });
  const installation = await installationId(control);
  const tenantSessions = createTenantSessions(control);
  const templates = createTemplates({
    control,
    installation,
    tenantMigrations,
    tenantSessions,
    extensionsSchema: tenants.extensionsSchema,
    strategy: tenants.createDatabaseStrategy,
    migrationTimeoutMs: provisioning.operationTimeoutSeconds * 1000,
    log,
  });
  const watch = createClusterWatch({
    clusters,
    prepare: createClusterPreparation({ control, templates, log }),
    setting: configured.setting,
    log,
  });
  stack.defer(() => watch.stop());
  await orStopped(watch.start());
  await warnOfUnknownClusters(control, clusters, configured.setting, log);
  const neighbours = createNeighbours();
  const services: StepServices = {
    control,
    installation,
    clusters,
    watch,
    keyRing,
    queue,
    tenantMigrations,
    templates,
    tenantSessions,
    neighbours,
    rights: createTenantRights(watch, neighbours),
    precedence: createPrecedence(),
    activateTogether: createJointActivation(provisioning.batchConcurrency),
    sharedDatabases: createSharedDatabases({
      control,
      strategy: tenants.createDatabaseStrategy,
    }),
    settings: { ...tenants, operationTimeoutSeconds: provisioning.operationTimeoutSeconds },
    failpoints,
  };
  return { services, eventLog, hints, configured, databaseUrl, controlVersion };
}
