import type { Logger } from 'pino';
import { listPercents } from '../control/events.ts';
import {
  FenceLostError,
  findOperation,
  isHeld,
  operationSecrets,
  remainingMs,
  takeOver,
  type Operation,
  type OperationHold,
} from '../control/operations.ts';
import { findTenantDatabases, type TenantDatabase } from '../control/tenant-databases.ts';
import { findTenant, type Tenant } from '../control/tenants.ts';
import type { EventLog } from '../progress/event-log.ts';
import { isolationOf } from './isolation/index.ts';
import { runPipeline, type RunEnd } from './pipeline.ts';
import type {
  EndedOperation,
  NextItems,
  OperationSecrets,
  RunFindings,
  StepServices,
} from './step.ts';
import { openSecrets } from './standby-claims.ts';
import { pipelineOf } from './steps/index.ts';

export interface RunnerOptions {
  readonly services: StepServices;
  readonly eventLog: EventLog;
  readonly log: Logger;
  /** Seconds after which a lease that is not renewed runs out. */
  readonly leaseSeconds: number;
}

/** An operation that this instance has just recorded, with what it knows of it. */
export interface AcceptedOperation {
  readonly operation: Operation;
  readonly tenant: Tenant;
  readonly database: TenantDatabase;
  /** Null for operations that need none. */
  readonly secrets: OperationSecrets | null;
  /** Milliseconds until the operation's deadline; null: it has none. */
  readonly remainingMs: number | null;
  /** What its events have shown so far. */
  readonly percent: number;
  /** What is known before the first step; only of operations that are no other instance's. */
  readonly findings?: RunFindings;
  /** Of an item of a batch: fills its place when it ends. */
  readonly nextItems?: NextItems | null;
}

/** What came of a run. */
export interface RunOutcome {
  readonly end: RunEnd;
  /** What the end left, where this run made it. */
  readonly ended: EndedOperation | null;
}

/** Runs operations: those accepted here at once, and those of instances that fell silent. */
export interface Runner {
  /** Starts an operation accepted here. The promise never rejects. */
  start(accepted: AcceptedOperation): Promise<RunOutcome>;
  /**
   * Starts an operation that waited and that this instance has begun; null: it could not. Never rejects.
   *
   * @param nextItems of an item of a batch: fills its place when it ends
   */
  begin(operation: Operation, nextItems: NextItems | null): Promise<RunEnd | null>;
  /** Takes over an operation whose lease ran out, and resumes or undoes it. */
  resume(operationId: string): Promise<void>;
  /** Whether anything runs: what can wait should. */
  isBusy(): boolean;
  /** Waits for what runs, at most `graceMs` milliseconds; then hands it back to the queue. */
  stop(graceMs: number): Promise<void>;
}

const neverAborts = new AbortController().signal;

/** Builds the runner of an instance. */
export function createRunner(options: RunnerOptions): Runner {
  const { services, eventLog } = options;
  const stopping = new AbortController();
  const running = new Map<string, Promise<RunOutcome>>();

  function start(accepted: AcceptedOperation, until = stopping.signal): Promise<RunOutcome> {
    const run = execute(accepted, until).finally(() => running.delete(accepted.operation.id));
    running.set(accepted.operation.id, run);
    return run;
  }

  /** @param until hands the operation back when it aborts */
  async function execute(accepted: AcceptedOperation, until: AbortSignal): Promise<RunOutcome> {
    const { operation, tenant, database, secrets } = accepted;
    const log = options.log.child({
      operationId: operation.id,
      tenantId: tenant.id,
      requestId: operation.requestId,
    });
    const lease = keepLease(operation, log);
    const begun = performance.now();
    const findings: RunFindings = { ...accepted.findings };
    const { steps, forwardOnly } = pipelineOf(operation.kind, isolationOf(tenant.isolation));
    const { remainingMs: left } = accepted;
    const deadline = left === null ? [] : [AbortSignal.timeout(Math.max(0, Math.round(left)))];
    try {
      const end = await runPipeline({
        steps,
        forwardOnly,
        context: {
          operation,
          hold: operation,
          tenant,
          database,
          secrets,
          cluster: clusterOf(database),
          services,
          findings,
          nextItems: accepted.nextItems ?? null,
          stillHeld: () => lease.stillHeld(),
          signal: AbortSignal.any([...deadline, until]),
        },
        stopping: until,
        eventLog,
        log,
        compensating: operation.status === 'COMPENSATING',
        percent: accepted.percent,
      });
      const durationMs = Math.round(performance.now() - begun);
      log.info({ kind: operation.kind, end, durationMs }, 'operation ended');
      if (end === 'STOPPED') await services.queue.handBack(operation.id).catch(() => undefined);
      return { end, ended: findings.ended ?? null };
    } finally {
      lease.end();
    }
  }

  /** Renews the lease on an operation until it is ended. */
  function keepLease(hold: OperationHold, log: Logger) {
    const leaseMs = options.leaseSeconds * 1000;
    let heldAt = performance.now();
    const renew = async (): Promise<void> => {
      const asked = performance.now();
      await services.queue.renew(hold.id);
      // Only after a gap, as after a stall, can anybody have taken the operation over.
      const gap = asked - heldAt >= leaseMs / 2;
      if (gap && !(await isHeld(services.control, hold))) throw new FenceLostError(hold.id);
      heldAt = asked;
    };
    const renewal = setInterval(() => {
      renew().catch((error: unknown) => {
        log.warn({ err: error }, 'the lease could not be renewed');
      });
    }, leaseMs / 3);
    return {
      async stillHeld(): Promise<void> {
        if (performance.now() - heldAt >= leaseMs / 2) await renew();
      },
      end() {
        clearInterval(renewal);
      },
    };
  }

  function clusterOf(database: TenantDatabase) {
    const cluster = services.clusters.get(database.cluster);
    if (cluster === undefined) throw new Error(`no cluster is called ${database.cluster}`);
    return cluster;
  }

  /**
   * Aborts when the cluster of an operation goes down. The queue hands on a few operations at a time:
   * those that can only wait for their cluster would keep it from handing on others.
   *
   * @throws Error while it is down, and when it is not configured
   */
  async function clusterSignal(operationId: string): Promise<AbortSignal> {
    const operation = await findOperation(services.control, null, operationId);
    if (operation?.finishedAt !== null) return neverAborts; // nothing is left to do
    const [database] = await findTenantDatabases(services.control, [operation.tenantId]);
    if (database === undefined) return neverAborts;
    const { cluster } = database;
    const signal = services.watch.whileUp(cluster);
    if (!signal.aborted) return signal;
    const message = services.clusters.has(cluster)
      ? 'operation waits for its cluster'
      : 'operation waits for a cluster that is not configured';
    options.log.warn({ operationId, cluster }, message);
    throw new Error(message);
  }

  /** What the registry knows of an operation. */
  async function load(operation: Operation): Promise<AcceptedOperation> {
    const { id, tenantId } = operation;
    const [tenant, databases, sealed, remaining, percents] = await Promise.all([
      findTenant(services.control, null, { id: tenantId }),
      findTenantDatabases(services.control, [tenantId]),
      operationSecrets(services.control, id),
      remainingMs(services.control, id),
      listPercents(services.control, [id]),
    ]);
    const database = databases[0];
    if (tenant === null || database === undefined) {
      throw new Error(`operation ${id} lacks its tenant or database`);
    }
    const secrets = sealed === null ? null : openSecrets(services.keyRing, sealed, tenant.id);
    const percent = percents.get(id) ?? 0;
    return { operation, tenant, database, secrets, remainingMs: remaining, percent };
  }

  /** Whoever looks after the batch of an operation that has not begun decides about it; its job stays. */
  async function refuseWaiting(operationId: string): Promise<void> {
    const operation = await findOperation(services.control, null, operationId);
    if (operation?.finishedAt !== null) return;
    throw new Error(`operation ${operationId} waits for its turn`);
  }

  return {
    start,

    async begin(operation, nextItems) {
      try {
        return (await start({ ...(await load(operation)), nextItems })).end;
      } catch (error) {
        options.log.warn({ err: error, operationId: operation.id }, 'operation handed back');
        await services.queue.handBack(operation.id).catch(() => undefined);
        return null;
      }
    },

    async resume(operationId) {
      // Here already: only the renewal was late. The job has to stay for as long as the operation is
      // open, or nobody would take it over when this instance dies.
      await running.get(operationId);
      const lost = await clusterSignal(operationId);
      await services.failpoints.reach('takeover:before');
      const operation = await takeOver(services.control, operationId);
      if (operation === null) return refuseWaiting(operationId); // or it has ended meanwhile
      options.log.warn({ operationId, fence: operation.fence }, 'operation taken over');
      await services.failpoints.reach('takeover:after');
      const accepted = await load(operation);
      const { end } = await start(accepted, AbortSignal.any([stopping.signal, lost]));
      if (end === 'STOPPED' || end === 'TAKEN_OVER') {
        throw new Error(`operation ${operationId} is left to another instance`);
      }
    },

    isBusy: () => running.size > 0,

    async stop(graceMs) {
      const grace = setTimeout(() => {
        stopping.abort(new Error('the instance is stopping'));
      }, graceMs);
      await Promise.all(running.values());
      clearTimeout(grace);
    },
  };
}
