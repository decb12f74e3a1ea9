import type { CheckedPlace } from '../control/health-checks.ts';
import type { KeyRing } from '../crypto/envelope.ts';
import { reportReach } from '../postgres/access.ts';
import type { Cluster } from '../postgres/cluster.ts';
import { connectionOptions } from '../postgres/connection.ts';
import { codeOf, errorCodes, isUnreachable } from '../postgres/error-codes.ts';
import { newestMigration } from '../postgres/inventory.ts';
import { connectionStringPurpose } from './steps/encrypt-credentials.ts';

/** What one look at a tenant's database found. Never holds a host, a password or SQL. */
export interface ProbeResult {
  /** Null: it could not be looked at; `error` says why. */
  readonly found: {
    /** Whether the required tables are there, in the tenant's own schema. */
    readonly tablesThere: boolean;
    /** Newest entry of its own ledger of migrations; null: none. */
    readonly migrationVersion: string | null;
  } | null;
  /** What is wrong, for people; null: nothing. */
  readonly error: string | null;
  /** Whether nothing answered at all in time: others of the same cluster need not wait as long. */
  readonly silent: boolean;
}

export interface ProbeOptions {
  readonly keyRing: KeyRing;
  readonly requiredTables: readonly string[];
  /** The longest that one look may take, milliseconds. */
  readonly timeoutMs: number;
}

/** Connects by the very string that the tenant connects by, and looks at what it finds. Never rejects. */
export async function probe(
  place: CheckedPlace,
  cluster: Cluster,
  { keyRing, requiredTables, timeoutMs }: ProbeOptions,
): Promise<ProbeResult> {
  const url = opened(place, keyRing);
  if (url === null) return failed('Its stored credentials cannot be opened');
  // Before the look is given up: a tenant that locks its own tables is not a server that is silent.
  const statementTimeoutMs = timeoutMs / 2;
  const config = {
    ...connectionOptions(url, { applicationName: 'tenantry health', statementTimeoutMs }),
    connectionTimeoutMillis: timeoutMs,
  };
  const signal = AbortSignal.timeout(timeoutMs);
  const looked = cluster.withLogin(
    config,
    async (client) => {
      const schema = place.schemaName ?? 'public';
      const access = await reportReach(client, schema, requiredTables);
      const migrationVersion = await newestMigration(client, schema);
      return { access, migrationVersion, schema };
    },
    signal,
  );
  try {
    // A connection that is still waited for is given up as well.
    const { access, migrationVersion, schema } = await orTimedOut(looked, signal);
    const missing = access.missingTables;
    const error =
      access.schema !== schema
        ? 'Its credentials do not come to its schema'
        : missing.length > 0
          ? `Required tables are missing: ${missing.join(', ')}`
          : null;
    return { found: { tablesThere: error === null, migrationVersion }, error, silent: false };
  } catch (error) {
    if (signal.aborted) {
      return { ...failed(`It did not answer within ${timeoutMs / 1000} s`), silent: true };
    }
    return failed(causeOf(error));
  }
}

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
  const code = codeOf(error);
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
