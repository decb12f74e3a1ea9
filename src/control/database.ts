import knexPackage, { type Knex } from 'knex';
import pg from 'pg';
import { codeOf, errorCodes } from '../postgres/error-codes.ts';
import { pinByVersion } from '../postgres/pinned-settings.ts';
import { serverIdentity } from '../postgres/server-check.ts';

/** PostgreSQL schema that holds the registry. */
export const controlSchema = 'control_plane';

/** The registry, or a transaction on it. */
export type Control = Knex | Knex.Transaction;

export interface ControlOptions {
  readonly connection: pg.ClientConfig;
  readonly poolMax: number;
  /** Wait for a free connection, milliseconds. */
  readonly poolTimeoutMs: number;
}

/** Opens the registry's connection pool. Connects on first use. */
export function openControl(options: ControlOptions): Knex {
  return knexPackage.knex({
    client: 'pg',
    connection: {
      ...options.connection,
      // What an instance that stalled has locked is free again.
      idle_in_transaction_session_timeout: 10_000,
      types: { getTypeParser },
      // Statements that wait for no answer share a round trip.
      pipeline: true,
    } as Knex.PgConnectionConfig,
    acquireConnectionTimeout: options.poolTimeoutMs,
    pool: {
      min: 0,
      max: options.poolMax,
      idleTimeoutMillis: 60_000,
      afterCreate: (client: pg.Client, done: (error: null, client: pg.Client) => void) => {
        // Without a listener that stays, a connection the server ends would end the process.
        client.on('error', () => undefined);
        pinByVersion(client);
        done(null, client);
      },
    },
    log: { warn: () => undefined, error: () => undefined, deprecate: () => undefined },
  });
}

/**
 * Waits for statements of one transaction that were sent without waiting for one another. When one
 * fails, all behind it do: what is thrown is the error of the first.
 */
export async function sentTogether<T extends readonly unknown[]>(
  statements: readonly [...T],
): Promise<{ -readonly [Place in keyof T]: Awaited<T[Place]> }> {
  const settled = await Promise.allSettled(statements);
  const reasons = settled.flatMap((one) =>
    one.status === 'rejected' ? [one.reason as unknown] : [],
  );
  if (reasons.length > 0) {
    throw reasons.find((reason) => codeOf(reason) !== errorCodes.inFailedTransaction) ?? reasons[0];
  }
  return settled.map((one) => (one.status === 'fulfilled' ? one.value : undefined)) as {
    -readonly [Place in keyof T]: Awaited<T[Place]>;
  };
}

/** A row as a statement returned it, under the names that its columns have in the code. */
export function fromRow<T>(
  columns: Readonly<Record<keyof T, string>>,
  row: Readonly<Record<string, unknown>>,
): T {
  return Object.fromEntries(
    Object.entries<string>(columns).map(([property, column]) => [property, row[column]]),
  ) as T;
}

/** Waits for the control plane to answer; rejects when it does not. */
export async function pingControl(control: Knex): Promise<void> {
  await control.raw('SELECT 1');
}

/** Where the registry is: its database, and what tells its server from others. */
export async function controlServer(
  control: Knex,
): Promise<{ readonly database: string; readonly identity: string }> {
  const { rows } = await control.raw<{ rows: { database: string; identity: string }[] }>(
    `SELECT current_database() AS database, ${serverIdentity} AS identity`,
  );
  if (rows[0] === undefined) throw new Error('the server answered without a row');
  return rows[0];
}

// Sequence numbers and counts stay far below 2^53: as numbers they need no care further on.
function getTypeParser(oid: number, format?: 'text'): unknown {
  const standard = pg.types.getTypeParser as (oid: number, format?: 'text') => unknown;
  return oid === bigintOid ? Number : standard(oid, format);
}

const bigintOid = 20; // pg_type.oid of int8
