import type pg from 'pg';
import type { CheckedPlace } from '../control/health-checks.ts';
import type { KeyRing } from '../crypto/envelope.ts';
import { reportReach } from '../postgres/access.ts';
import type { Cluster } from '../postgres/cluster.ts';
import { connectionOptions } from '../postgres/connection.ts';
import { codeOf, errorCodes, isUnreachable } from '../postgres/error-codes.ts';
import { newestMigration } from '../postgres/ledger.ts';
import { ownPlace } from '../postgres/pinned-settings.ts';
import { AnswerTooLargeError } from '../postgres/session.ts';
import { servicePlaceOf } from './service-place.ts';
import { connectionStringPurpose } from './steps/encrypt-credentials.ts';
import type { TenantSessions } from './tenant-session.ts';

/** What one look at a tenant's database found. Never holds a host, a password or SQL. */
export interface ProbeResult {
  /** Null: it could not be looked at; `error` says why. */
  readonly found: {
    /** Whether the required tables are there, in the tenant's own schema. */
    readonly tablesThere: boolean;
    /** Newest entry of its own ledger of migrations; null: none. */
    readonly migrationVersion: string | null;
    /** Whether it was found by the service login alone: the tenant's own is refused. */
    readonly refused: boolean;
  } | null;
  /** What is wrong, for people; null: nothing. */
  readonly error: string | null;
  /** Whether there was no answer at all in time. */
  readonly silent: boolean;
}

export interface ProbeOptions {
  readonly keyRing: KeyRing;
  readonly requiredTables: readonly string[];
  readonly tenantSessions: TenantSessions;
  /** Schema of the operator's extensions. */
  readonly extensionsSchema: string;
  /** The longest that one look may take, milliseconds. */
  readonly timeoutMs: number;
}

// Of all answers to one look, errors and notices too: what is asked for comes to some hundred bytes.
const maxBytes = 256 * 1024;

/**
 * Connects by the very string that the tenant connects by, and looks at what it finds; where that is
 * refused, by the service login. Never rejects.
 */
export async function probe(
  place: CheckedPlace,
  cluster: Cluster,
  options: ProbeOptions,
): Promise<ProbeResult> {
  const { keyRing, timeoutMs } = options;
  const url = opened(place, keyRing);
  if (url === null) return failed('Its stored credentials cannot be opened');
  // Before the look is given up: a tenant that locks its own tables is not a server that is silent.
  const statementTimeoutMs = timeoutMs / 2;
  const config = {
    ...connectionOptions(url, {
      applicationName: 'tenantry health',
      statementTimeoutMs,
      place: ownPlace,
    }),
    connectionTimeoutMillis: timeoutMs,
  };
  const signal = AbortSignal.timeout(timeoutMs);
  const looked = cluster.withLogin(
    config,
    (client) => look(client, place, options.requiredTables),
    signal,
    maxBytes,
  );
  try {
    // A connection that is still waited for is given up as well.
    return { ...(await orTimedOut(looked, signal)), silent: false };
  } catch (error) {
    if (signal.aborted) {
      return { ...failed(`It did not answer within ${timeoutMs / 1000} s`), silent: true };
    }
    if (!isRefusal(error)) return failed(causeOf(error));
    const found = await lookAsService(place, cluster, options);
    return { found, error: causeOf(error), silent: false };
  }
}

async function look(
  client: pg.ClientBase,
  place: CheckedPlace,
  requiredTables: readonly string[],
): Promise<Omit<ProbeResult, 'silent'>> {
  const schema = place.schemaName ?? 'public';
  const { missingTables, schema: searched } = await reportReach(client, schema, requiredTables);
  const migrationVersion = await newestMigration(client, schema);
  const error =
    searched !== schema
      ? 'Its credentials do not come to its schema'
      : missingTables.length > 0
        ? `Required tables are missing: ${missingTables.join(', ')}`
        : null;
  return { found: { tablesThere: error === null, migrationVersion, refused: false }, error };
}

/** The same where the tenant's own login is refused; null: this way, too, it cannot be looked at. */
async function lookAsService(
  place: CheckedPlace,
  cluster: Cluster,
  { extensionsSchema, requiredTables, tenantSessions, timeoutMs }: ProbeOptions,
): Promise<ProbeResult['found']> {
  const served = servicePlaceOf(cluster, place, { extensionsSchema });
  const signal = AbortSignal.timeout(timeoutMs);
  const looked = tenantSessions.query(
    served,
    {
      applicationName: 'tenantry health',
      statementTimeoutMs: timeoutMs / 2,
      maxBytes,
      signal,
    },
    (client) => look(client, place, requiredTables),
  );
  return orTimedOut(looked, signal).then(
    ({ found }) => found && { ...found, refused: true },
    () => null,
  );
}

/** Whether a login failed by what its tenant, or an operator, did to it. */
function isRefusal(error: unknown): boolean {
  const code = codeOf(error);
  // node-postgres gives the failures of its own half of the login no code.
  if (code === undefined) return error instanceof Error && error.message.startsWith('SASL');
  // A library that it is to load and that is not there, say; 57P: the server itself goes down or comes up.
  return refusals.has(code) || (severityOf(error) === 'FATAL' && !/^(57P|08)/.test(code));
}

function severityOf(error: unknown): unknown {
  return error instanceof Error && 'severity' in error ? error.severity : undefined;
}

const refusals: ReadonlySet<string> = new Set([
  errorCodes.invalidPassword,
  errorCodes.invalidAuthorization,
  errorCodes.tooManyConnections,
]);

function opened({ sealed, tenantId }: CheckedPlace, keyRing: KeyRing): string | null {
  if (sealed === null) return null;
  try {
    return keyRing.open(sealed, connectionStringPurpose, tenantId);
  } catch {
    return null;
  }
}

function failed(error: string): ProbeResult {
  return { found: null, error, silent: false };
}

/** What may be told of an error: PostgreSQL's own messages name hosts, roles and statements. */
function causeOf(error: unknown): string {
  if (isUnreachable(error)) return 'Its cluster takes no connections';
  if (error instanceof AnswerTooLargeError) return 'Its answer is too large';
  const code = codeOf(error);
  if (code === undefined && isRefusal(error)) return 'Its credentials are refused';
  return (code === undefined ? undefined : causes.get(code)) ?? 'It could not be looked at';
}

const causes: ReadonlyMap<string, string> = new Map([
  [errorCodes.invalidCatalogName, 'Its database is not there'],
  [errorCodes.invalidPassword, 'Its credentials are refused'],
  [errorCodes.invalidAuthorization, 'Its credentials are refused'],
  [errorCodes.insufficientPrivilege, 'Its credentials lack rights'],
  [errorCodes.queryCanceled, 'It did not answer in time'],
  [errorCodes.tooManyConnections, 'It has no connection to spare'],
  // A database that an interrupted drop left, or that is closed.
  [errorCodes.objectNotInPrerequisiteState, 'Its database takes no connections'],
]);

async function orTimedOut<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const giveUp = (): void => {
    reject(signal.reason as Error);
  };
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener('abort', giveUp);
    work.catch(() => undefined);
  }
}
