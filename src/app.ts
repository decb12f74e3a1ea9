import { fileURLToPath } from 'node:url';
import type { Knex } from 'knex';
import type { Logger } from 'pino';
import { configuredClusters, openClusters } from './app/clusters.ts';
import { embeddedUrl } from './app/embedded.ts';
import {
  blameDatabase,
  blameMigrations,
  refuseEmptyFolder,
  openKeyRing,
  refuseControlAsShared,
  warnOfUnknownClusters,
} from './app/start-checks.ts';
import { openRecognition } from './app/recognition.ts';
import { createAccessWatch } from './auth/access-watch.ts';
import { loadSigningKey } from './auth/local-tokens.ts';
import type { Config } from './config.ts';
import { controlSchema, openControl } from './control/database.ts';
import { purgeIdempotencyRecords } from './control/idempotency.ts';
import { installationId } from './control/installation.ts';
import { migrateControl } from './control/migrate.ts';
import { createRateLimit } from './control/rate-limits.ts';
import { SettingError } from './errors.ts';
import { createGraphiQLPage } from './http/graphiql.ts';
import { createGraphQL } from './http/graphql.ts';
import { listen } from './http/server.ts';
import type { StreamTimes } from './http/stream-times.ts';
import { createOperationQueue, queueSchema } from './jobs/operation-queue.ts';
import { connectionOptions } from './postgres/connection.ts';
import { loadMigrations } from './postgres/migrations.ts';
import { checkServer } from './postgres/server-check.ts';
import { createEventLog } from './progress/event-log.ts';
import { createEventSubscriptions } from './progress/event-subscriptions.ts';
import { pruneAuditLog } from './provisioning/audit-retention.ts';
import { createBatchRuns } from './provisioning/batch-runs.ts';
import { createClusterPreparation } from './provisioning/cluster-preparation.ts';
import { createClusterWatch } from './provisioning/cluster-watch.ts';
import { createFailpoints, failpointNames, noFailpoints } from './provisioning/failpoints.ts';
import { createHealthChecks } from './provisioning/health.ts';
import { createLooseEnds } from './provisioning/loose-ends.ts';
import { createNeighbours } from './provisioning/neighbours.ts';
import { createPlacement } from './provisioning/placement.ts';
import { createPrecedence } from './provisioning/precedence.ts';
import { checkReadiness } from './provisioning/readiness.ts';
import { createReconciler } from './provisioning/reconciler.ts';
import { createRunner } from './provisioning/runner.ts';
import { createScheduledRuns } from './provisioning/scheduled-runs.ts';
import { createProvisioning } from './provisioning/service.ts';
import { createStandbys } from './provisioning/standbys.ts';
import type { Failpoints, StepServices } from './provisioning/step.ts';
import { createSharedDatabases } from './provisioning/shared-databases.ts';
import { createTemplates, refuseChangedMigrations } from './provisioning/templates.ts';

export interface AppOptions {
  readonly log: Logger;
  /** Makes the pipeline fail on purpose; tests only. */
  readonly failpoints?: Failpoints;
  /** Makes streams less patient than they are; tests only. */
  readonly streamTimes?: Partial<StreamTimes>;
  /** Breaks off a start under way: `startApp` rejects with its reason, once what was begun is ended. */
  readonly signal?: AbortSignal;
}

/** A gateway that listens. */
export interface App {
  /** Where it listens, e.g. `http://127.0.0.1:4000`. */
  readonly url: string;
  /** Ends everything, in the reverse order of its making; what runs is finished or handed back. */
  close(): Promise<void>;
}

const controlMigrations = fileURLToPath(new URL('../migrations', import.meta.url));
const cleaningIntervalMs = 3_600_000;
const tendingIntervalMs = 60_000;

/**
 * Builds and connects everything, and listens. What was begun is ended again when a later part fails.
 *
 * @throws SettingError for what the operator can mend, naming the setting
 */
export async function startApp(config: Config, options: AppOptions): Promise<App> {
  const { log, failpoints = configuredFailpoints(config, log), streamTimes = {} } = options;
  const { signal = new AbortController().signal } = options;
  const stack = new AsyncDisposableStack();
  try {
    const url = await build(config, { log, failpoints, streamTimes, signal }, stack);
    return { url, close: () => stack.disposeAsync() };
  } catch (error) {
    await stack.disposeAsync();
    signal.throwIfAborted(); // what failed meanwhile failed because of it
    throw error;
  }
}

async function build(
  config: Config,
  { log, failpoints, streamTimes, signal }: Required<AppOptions>,
  stack: AsyncDisposableStack,
): Promise<string> {
  const { database, provisioning, server, tenants } = config;
  const stopped = whenAborted(signal);
  /** For what may wait on others: a server that does not answer, an instance that migrates. */
  const orStopped = <T>(work: Promise<T>): Promise<T> => Promise.race([work, stopped]);
  const graceMs = server.shutdownGraceSeconds * 1000;
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
  const eventLog = createEventLog({
    control,
    onError: (error) => {
      log.warn({ err: error }, 'progress events could not be written');
    },
  });
  const installation = await installationId(control);
  const templates = createTemplates({
    control,
    installation,
    tenantMigrations,
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
  const services: StepServices = {
    control,
    installation,
    clusters,
    watch,
    keyRing,
    queue,
    tenantMigrations,
    templates,
    neighbours: createNeighbours(),
    precedence: createPrecedence(),
    sharedDatabases: createSharedDatabases({
      control,
      strategy: tenants.createDatabaseStrategy,
    }),
    settings: tenants,
    failpoints,
  };

  const leaseSeconds = provisioning.takeoverSeconds;
  const runner = createRunner({ services, eventLog, log, leaseSeconds });
  const standbys = createStandbys({
    services,
    counts: config.standbys,
    isBusy: () => runner.isBusy() || services.precedence.isAwaited(),
    isAwaited: () => services.precedence.isAwaited(),
    buildTimeoutMs: provisioning.operationTimeoutSeconds * 1000,
    log,
  });
  const runs = createBatchRuns({
    control,
    precedence: services.precedence,
    queue,
    runner,
    settings: provisioning,
    log,
  });
  const scheduled = createScheduledRuns({
    control,
    queue,
    runner,
    runs,
    watch,
    settings: provisioning,
    log,
  });
  const serving = queue.start((operationId) => runner.resume(operationId));
  await orStopped(serving.catch(blameDatabase(config)));
  stack.defer(async () => {
    // First nothing new, then what runs, then what it has to tell.
    await Promise.all([scheduled.stop(), runs.stop()]);
    await Promise.all([queue.stop(graceMs), runner.stop(graceMs), standbys.stop(graceMs)]);
    await eventLog.close();
  });
  clean(config, control, log);
  const cleaning = setInterval(clean, cleaningIntervalMs, config, control, log);
  stack.defer(() => {
    clearInterval(cleaning);
  });

  const eventSubscriptions = createEventSubscriptions({
    control,
    connection: connectionOptions(databaseUrl, {
      applicationName: 'tenantry listen',
      statementTimeoutMs: 5_000,
    }),
    log,
  });
  const service = createProvisioning({
    runner,
    precedence: services.precedence,
    reserve: {
      control,
      keyRing,
      queue,
      standbys: standbys.claims,
      failpoints,
      settings: { ...provisioning, ...tenants },
    },
    placement: createPlacement({ clusters: configured.list, watch }),
    rules: { ...provisioning, ...tenants },
    apiKeyOverlapSeconds: provisioning.apiKeyOverlapSeconds,
    creationLimit: createRateLimit(control, 'creations', provisioning.creationsPerMinute),
    runs,
    batchLimit: createRateLimit(control, 'batch-tenants', provisioning.batchTenantsPerMinute),
    maxTenantsPerBatch: provisioning.maxTenantsPerBatch,
    log,
  });
  // Made at once where DATA_DIR is ours, so that all keys are there to be saved after the first start.
  if (database.url === null && config.auth.mode === 'open') await loadSigningKey(database.dataDir);
  const recognise = openRecognition(config, control);
  const access = createAccessWatch({ control, log });
  stack.defer(() => {
    access.close();
  });
  const http = await listen({
    host: server.host,
    port: server.port,
    publicUrl: server.publicUrl ?? '',
    corsOrigins: server.corsOrigins,
    trustedProxies: server.trustedProxies,
    loopbackOnly: config.auth.mode === 'open',
    graphiql: server.graphiql ? createGraphiQLPage() : null,
    graphql: createGraphQL({
      gateway: {
        control,
        clusters,
        provisioning: service,
        health: createHealthChecks({
          control,
          clusters,
          keyRing,
          requiredTables: tenants.requiredTenantTables,
          newestMigration: tenantMigrations.version,
        }),
        eventLog,
        eventSubscriptions,
        tenantMigrations,
        log,
      },
      access,
      introspection: server.introspection,
    }),
    recognise,
    access,
    streamTimes,
    health: { ready: () => checkReadiness({ control, controlVersion, queue, keyRing, watch }) },
    log,
  });
  stack.defer(async () => {
    // Sockets are told first; streams that are left would keep their requests open for the whole grace.
    await Promise.all([http.close(graceMs), eventSubscriptions.close()]);
  });
  standbys.start();
  runs.start();
  scheduled.start();
  const tending = setInterval(tendTemplates, tendingIntervalMs, services, log);
  stack.defer(() => {
    clearInterval(tending);
  });
  const reconciler = createReconciler({ services, ...config.reconcile, log });
  stack.defer(() => reconciler.stop());
  reconciler.start();
  const looseEnds = createLooseEnds({ control, queue, log, leaseSeconds });
  stack.defer(() => looseEnds.stop());
  looseEnds.start();
  return http.url;
}

/** Nothing waits for it; a cluster that is down is tended when it is back. */
function tendTemplates({ clusters, templates, watch }: StepServices, log: Logger): void {
  for (const cluster of clusters.values()) {
    if (!watch.takesTenants(cluster.name)) continue;
    templates.tend(cluster).catch((error: unknown) => {
      log.warn({ err: error, cluster: cluster.name }, 'unused templates could not be dropped');
    });
  }
}

/** What FAILPOINTS says: nothing as a rule. */
function configuredFailpoints({ failpoints: { rules } }: Config, log: Logger): Failpoints {
  if (rules === null || rules.length === 0) return noFailpoints;
  const known = failpointNames();
  const unknown = rules.find(({ point }) => !known.has(point));
  if (unknown !== undefined) {
    const message = `${unknown.point} is none of ${[...known].join(', ')}`;
    throw new SettingError('FAILPOINTS', message);
  }
  log.warn({ rules }, 'FAILPOINTS is set: this instance fails on purpose');
  return createFailpoints(rules, log);
}

/** Removes what has lived for as long as the settings say. Nothing waits for it. */
function clean({ audit }: Config, control: Knex, log: Logger): void {
  purgeIdempotencyRecords(control).catch((error: unknown) => {
    log.warn({ err: error }, 'expired idempotency records could not be deleted');
  });
  if (audit.retentionDays === 0) return;
  pruneAuditLog(control, audit.retentionDays, 'gateway').then(
    (pruned) => {
      if (pruned !== null) return;
      const message =
        'AUDIT_RETENTION_DAYS: this role may not prune the audit log; its owner has to run: npm run prune-audit';
      log.warn(message);
    },
    (error: unknown) => {
      log.warn({ err: error }, 'the audit log could not be pruned');
    },
  );
}

/** Rejects with the signal's reason once it aborts; never without. */
function whenAborted(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  const stop = (): void => {
    reject(signal.reason as Error);
  };
  if (signal.aborted) stop();
  else signal.addEventListener('abort', stop, { once: true });
  promise.catch(() => undefined); // after the start, nobody waits for it
  return promise;
}
