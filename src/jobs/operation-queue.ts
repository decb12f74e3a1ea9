import { createHash } from 'node:crypto';
import type { Knex } from 'knex';
import { fromKnex, PgBoss, type KnexTransactionLike } from 'pg-boss';

/** PostgreSQL schema of the queue's own tables, beside the registry. */
export const queueSchema = 'control_plane_jobs';

const queueName = 'operations';

export interface OperationQueueOptions {
  readonly control: Knex;
  /**
   * Seconds of silence after which another instance takes an operation over. The job of an operation
   * is deferred by this much, again and again, by the instance that works on it: a lease.
   */
  readonly leaseSeconds: number;
  /** Told of errors of the queue's background work; nothing else depends on them. */
  readonly onError: (error: Error) => void;
}

/** The durable jobs of operations: one job for each operation that has not ended. */
export interface OperationQueue {
  /**
   * Makes the queue's tables where they are missing and begins to take jobs whose lease ran out.
   * `handler` gets the operation's id; when it rejects, the job comes again later.
   */
  start(handler: (operationId: string) => Promise<void>): Promise<void>;
  /** Inserts the job of an operation in the transaction that records it, leased to this instance. */
  enqueue(trx: Knex.Transaction, operationId: string): Promise<void>;
  /** Inserts the jobs of operations that wait for `seconds` at most, each until somebody begins it. */
  enqueueWaiting(
    trx: Knex.Transaction,
    operationIds: readonly string[],
    seconds: number,
  ): Promise<void>;
  /** Leases operations that were waiting to this instance, in the transaction that begins them. */
  lease(trx: Knex.Transaction, operationIds: readonly string[]): Promise<void>;
  /** Inserts the jobs of open operations that have none, or an ended one, leased to this instance. */
  enqueueAgain(trx: Knex.Transaction, operationIds: readonly string[]): Promise<void>;
  /** Prolongs the lease on an operation that this instance works on. */
  renew(operationId: string): Promise<void>;
  /** Ends the lease at once, so that another instance may go on. */
  handBack(operationId: string): Promise<void>;
  /** Those of these operations that have no job that would come again. */
  lacking(operationIds: readonly string[]): Promise<string[]>;
  /** Ends the jobs in the transaction that ends their operations. */
  complete(trx: Knex.Transaction, operationIds: readonly string[]): Promise<void>;
  /** Rejects when the queue's tables do not answer. */
  ping(): Promise<void>;
  /** Takes no more jobs and waits for the handlers under way, at most `graceMs` milliseconds. */
  stop(graceMs: number): Promise<void>;
}

/** Builds the queue on pg-boss, over the control plane's own connections. */
export function createOperationQueue(options: OperationQueueOptions): OperationQueue {
  const boss = new PgBoss({
    db: fromKnex(rollingBack(options.control)),
    schema: queueSchema,
    superviseIntervalSeconds: 5,
    // Jobs of an instance that died while it worked on them come again at a monitor's pass: by default
    // that is once a minute.
    monitorIntervalSeconds: 5,
    schedule: false,
    persistWarnings: false,
  });
  boss.on('error', options.onError);
  let started = false;

  /**
   * Has jobs that nobody works on come in `seconds`. Said to their table: pg-boss itself defers one job at
   * a time, by a statement that may change all else of it too. Each is kept for as long after that as before.
   */
  const defer = async (
    control: Knex | Knex.Transaction,
    operationIds: readonly string[],
    seconds: number,
  ): Promise<void> => {
    if (operationIds.length === 0) return;
    await prepared(control).raw(
      `UPDATE ${queueSchema}.job SET start_after = lease.ends,
         keep_until = lease.ends + (keep_until - start_after)
       FROM (SELECT now() + ? * interval '1 second' AS ends) AS lease
       WHERE name = '${queueName}' AND id = ANY (?) AND state < 'active'`,
      [seconds, [...operationIds]],
    );
  };

  const insert = async (
    trx: Knex.Transaction,
    operationIds: readonly string[],
    seconds: number,
  ): Promise<void> => {
    const jobs = operationIds.map((id) => ({ id, data: { operationId: id }, startAfter: seconds }));
    await boss.insert(queueName, jobs, { db: fromKnex(prepared(trx)) });
  };

  return {
    async start(handler) {
      await boss.start();
      started = true;
      await boss.createQueue(queueName, queueOptions);
      await boss.work<{ operationId: string }>(
        queueName,
        { pollingIntervalSeconds: 1, batchSize: 1, localConcurrency: 4 },
        async (jobs) => {
          for (const job of jobs) await handler(job.data.operationId);
        },
      );
    },

    async enqueue(trx, operationId) {
      await boss.send(
        queueName,
        { operationId },
        { id: operationId, startAfter: options.leaseSeconds, db: fromKnex(prepared(trx)) },
      );
    },

    async enqueueWaiting(trx, operationIds, seconds) {
      await insert(trx, operationIds, seconds);
    },

    lease(trx, operationIds) {
      return defer(trx, operationIds, options.leaseSeconds);
    },

    async enqueueAgain(trx, operationIds) {
      // The job that was completed with the operation is kept for a while, under the same id.
      await boss.deleteJob(queueName, [...operationIds], { db: fromKnex(prepared(trx)) });
      await insert(trx, operationIds, options.leaseSeconds);
    },

    renew(operationId) {
      return defer(options.control, [operationId], options.leaseSeconds);
    },

    handBack(operationId) {
      return defer(options.control, [operationId], 0);
    },

    async lacking(operationIds) {
      // Asked of its table: pg-boss itself answers for one job at a time.
      const { rows } = await options.control.raw<{ rows: { id: string }[] }>(
        `SELECT wanted.id FROM unnest(CAST(? AS uuid[])) AS wanted (id)
         WHERE NOT EXISTS (SELECT FROM ${queueSchema}.job
           WHERE job.name = ? AND job.id = wanted.id AND job.state < 'completed')`,
        [[...operationIds], queueName],
      );
      return rows.map(({ id }) => id);
    },

    async complete(trx, operationIds) {
      if (operationIds.length === 0) return;
      await boss.complete(queueName, [...operationIds], null, {
        db: fromKnex(prepared(trx)),
        includeQueued: true,
      });
    },

    async ping() {
      if ((await boss.getQueue(queueName)) === null) throw new Error('the queue is missing');
    },

    async stop(graceMs) {
      if (!started) return;
      started = false;
      await boss.stop({ graceful: true, timeout: Math.max(1000, graceMs), close: false });
    },
  };
}

const queueOptions = {
  // The job lives as long as its operation, which decides by its deadline when to give up.
  retryLimit: 1_000_000,
  retryDelay: 1,
  retryBackoff: true,
  retryDelayMax: 60,
  heartbeatSeconds: 10,
  expireInSeconds: 23 * 3600,
  deleteAfterSeconds: 3600,
};

/** Makes the queue's tables, or brings them up to date, and takes no job: before gateways that may not. */
export async function makeQueueTables(control: Knex): Promise<void> {
  const boss = new PgBoss({
    db: fromKnex(rollingBack(control)),
    schema: queueSchema,
    supervise: false,
    schedule: false,
  });
  boss.on('error', () => undefined); // what fails, rejects
  await boss.start();
  await boss.createQueue(queueName, queueOptions);
  await boss.stop({ graceful: false, close: false });
}

/**
 * pg-boss sends whole transactions (`BEGIN … COMMIT`) as one text. When one fails, as it does when two
 * instances make the tables at once, its session is left in the failed transaction; knex would hand
 * it to the next query as it is.
 */
function rollingBack(control: Knex): KnexTransactionLike {
  const sessions = control.client as {
    acquireConnection(): Promise<unknown>;
    releaseConnection(session: unknown): Promise<void>;
  };
  const raw = async (sql: string, values: Knex.RawBinding[]): Promise<{ rows: never[] }> => {
    const session = await sessions.acquireConnection();
    try {
      return await control.raw<{ rows: never[] }>(sql, values).connection(session);
    } catch (error) {
      // Fails on a broken connection alone, which knex finds out by itself.
      await control
        .raw('ROLLBACK')
        .connection(session)
        .catch(() => undefined);
      throw error;
    } finally {
      await sessions.releaseConnection(session);
    }
  };
  return { raw };
}

/**
 * The statements of a create are few and large, and planning them takes longer than running them:
 * named, each connection plans them once.
 */
function prepared(trx: Knex | Knex.Transaction): KnexTransactionLike {
  const raw = (sql: string, values: Knex.RawBinding[]): Knex.Raw =>
    trx.raw(sql, values).options({ name: statementName(sql) });
  return { raw }; // a Knex.Raw is awaited like a promise
}

const statementNames = new Map<string, string>();

function statementName(sql: string): string {
  let name = statementNames.get(sql);
  if (name === undefined) {
    name = `queue_${createHash('sha256').update(sql).digest('hex').slice(0, 32)}`;
    statementNames.set(sql, name);
  }
  return name;
}
