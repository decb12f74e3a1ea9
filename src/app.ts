import type { Logger } from 'pino';
import { boundLog } from './app/bound-log.ts';
import { startChores } from './app/chores.ts';
import { configuredFailpoints } from './app/failpoints.ts';
import { openGround } from './app/ground.ts';
import { openRecognition } from './app/recognition.ts';
import { blameDatabase } from './app/start-checks.ts';
import { createAccessWatch } from './auth/access-watch.ts';
import { loadSigningKey } from './auth/local-tokens.ts';
import type { Config } from './config.ts';
import { createRateLimit } from './control/rate-limits.ts';
import { createGraphiQLPage } from './http/graphiql.ts';
import { createGraphQL } from './http/graphql.ts';
import { listen } from './http/server.ts';
import type { StreamTimes } from './http/stream-times.ts';
import { connectionOptions } from './postgres/connection.ts';
import { createEventSubscriptions } from './progress/event-subscriptions.ts';
import { createBatchRuns } from './provisioning/batch-runs.ts';
import { createHealthChecks } from './provisioning/health.ts';
import { createPlacement } from './provisioning/placement.ts';
import { checkReadiness } from './provisioning/readiness.ts';
import { createRoleNames } from './provisioning/role-names.ts';
import { createRunner } from './provisioning/runner.ts';
import { createScheduledRuns } from './provisioning/scheduled-runs.ts';
import { createProvisioning } from './provisioning/service.ts';
import { createStandbys } from './provisioning/standbys.ts';
import type { Failpoints } from './provisioning/step.ts';

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

/**
 * Builds and connects everything, and listens. What was begun is ended again when a later part fails.
 *
 * @throws SettingError for what the operator can mend, naming the setting
 */
export async function startApp(config: Config, options: AppOptions): Promise<App> {
  const log = boundLog(options.log);
  const { failpoints = configuredFailpoints(config, log), streamTimes = {} } = options;
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
  const ground = await openGround(config, { log, failpoints, signal, orStopped }, stack);
  const { configured, controlVersion, databaseUrl, eventLog, hints, services } = ground;
  const { clusters, control, keyRing, queue, tenantMigrations, watch } = services;

  const leaseSeconds = provisioning.takeoverSeconds;
  const runner = createRunner({ services, eventLog, log, leaseSeconds });
  const standbys = createStandbys({
    services,
    counts: config.standbys,
    isBusy: () => runner.isBusy() || services.precedence.isAwaited(),
    isAwaited: () => services.precedence.isAwaited() || runs.isNearlyOver(),
    buildTimeoutMs: provisioning.operationTimeoutSeconds * 1000,
    log,
  });
  const runs = createBatchRuns({
    control,
    precedence: services.precedence,
    queue,
    hints,
    runner,
    settings: provisioning,
    failpoints,
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
    await hints.close();
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
    roleNames: createRoleNames(clusters),
    placement: createPlacement({ clusters: configured.list, watch }),
    rules: { ...provisioning, ...tenants },
    apiKeyOverlapSeconds: provisioning.apiKeyOverlapSeconds,
    creationLimit: createRateLimit(control, 'creations', provisioning.creationsPerMinute),
    runs,
    hints,
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
          tenantSessions: services.tenantSessions,
          extensionsSchema: tenants.extensionsSchema,
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
  startChores(config, { ...services, hints }, log, stack);
  return http.url;
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
