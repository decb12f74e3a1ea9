/**
 * PostgreSQL's error codes that decide something here, named once.
 * Source: PostgreSQL documentation, Appendix A.
 */
export const errorCodes = {
  /** Told to every statement behind the one that failed a transaction. */
  inFailedTransaction: '25P02',
  uniqueViolation: '23505',
  duplicateDatabase: '42P04',
  duplicateSchema: '42P06',
  duplicateObject: '42710',
  undefinedObject: '42704',
  undefinedTable: '42P01',
  dependentObjects: '2BP01',
  invalidCatalogName: '3D000',
  invalidSchemaName: '3F000',
  invalidPassword: '28P01',
  invalidAuthorization: '28000',
  insufficientPrivilege: '42501',
  objectNotInPrerequisiteState: '55000',
  objectInUse: '55006',
  /** The server's table of locks is full, above all. */
  outOfMemory: '53200',
  tooManyConnections: '53300',
  lockNotAvailable: '55P03',
  deadlockDetected: '40P01',
  queryCanceled: '57014',
} as const;

/** Codes of errors that may pass by themselves: the step is tried again until its deadline. */
const transientCodes: ReadonlySet<string> = new Set([
  '40001', // serialization_failure
  '40P01', // deadlock_detected
  '53300', // too_many_connections
  '55006', // object_in_use: a template with a session on it
  '55P03', // lock_not_available
  '57P01', // admin_shutdown
  '57P02', // crash_shutdown
  '57P03', // cannot_connect_now: the server is starting
  '57P05', // idle_session_timeout: this instance had stalled
  '25P03', // idle_in_transaction_session_timeout: likewise
  // What the operating system says when there is no server at the other end (yet).
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EAI_AGAIN',
]);

const transientClasses: readonly string[] = ['08']; // connection exceptions

// node-postgres reports a connection that broke without a code, and Knex a pool that is busy. Knex
// writes the statement in front of node-postgres's messages.
const transientMessages =
  /(?:^| - )(Connection terminated|timeout expired|timeout exceeded when trying to connect|Client has encountered a connection error|Knex: Timeout acquiring a connection)/;

/** The `code` of an error from PostgreSQL or the operating system; undefined for other errors. */
export function codeOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** An error that is known to pass when the step looks anew. */
export class PassingError extends Error {
  override readonly name = 'PassingError';
}

/** Tells whether doing the same again later may work. */
export function isTransient(error: unknown): boolean {
  if (error instanceof PassingError) return true;
  if (error instanceof AggregateError && error.errors.length > 0) {
    return error.errors.every((inner) => isTransient(inner)); // every address of a host failed
  }
  const code = codeOf(error);
  if (code !== undefined) {
    if (transientCodes.has(code) || transientClasses.some((prefix) => code.startsWith(prefix))) {
      return true;
    }
    // Two GRANTs on one object at once; XX000 also stands for real faults, so the text decides.
    return code === 'XX000' && /tuple concurrently (updated|deleted)/.test(messageOf(error));
  }
  return error instanceof Error && transientMessages.test(error.message);
}

/** What is said where no server takes connections: nothing answers, or it is starting or ending. */
const unreachableCodes: ReadonlySet<string> = new Set([
  '57P03', // cannot_connect_now
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
]);

/** Tells whether a failed connection means that the whole server cannot be reached at present. */
export function isUnreachable(error: unknown): boolean {
  if (error instanceof AggregateError && error.errors.length > 0) {
    return error.errors.every((inner) => isUnreachable(inner));
  }
  return unreachableCodes.has(codeOf(error) ?? '');
}

/** Tells whether the error is a broken unique constraint, and of which name. */
export function brokenConstraint(error: unknown): string | undefined {
  if (codeOf(error) !== errorCodes.uniqueViolation) return undefined;
  const { constraint } = error as { constraint?: unknown };
  return typeof constraint === 'string' ? constraint : undefined;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : '';
}
