import { isolationOf } from '../isolation/index.ts';
import { StepFailure, type PlaceContext, type Step } from '../step.ts';
import { accessQuestion, tenantLoginOptions } from '../tenant-login.ts';
import type { AccessReport } from '../../postgres/access.ts';
import { activateAhead } from './activate.ts';

/** Connects with the tenant's own credentials, as the tenant will, and asks what they reach. */
export const verifyConnection: Step = {
  name: 'verify_connection',

  async run(context) {
    // A tenant waits for the slower of the two: only a verified login lets it be committed.
    await activateAhead(context);
    await verifyPlace(context);
  },
};

/**
 * The same for a place that may have no tenant yet.
 *
 * @throws StepFailure when the credentials reach too little or too much
 */
export async function verifyPlace(context: PlaceContext): Promise<void> {
  const { cluster, findings, signal } = context;
  const ask = await accessQuestion(context);
  const { login } = findings;
  delete findings.login; // one that fails is opened anew
  const report =
    login === undefined
      ? await cluster.withLogin(tenantLoginOptions(context), ask, signal)
      : await login.use(ask, signal);
  const problem = problemOf(report, context);
  if (problem !== null) throw new StepFailure(problem);
}

function problemOf(report: AccessReport, { database }: PlaceContext): string | null {
  const reach = isolationOf(database.isolation).reach(database);
  if (report.database !== database.databaseName) return 'the credentials open another database';
  if (report.schema !== reach.schema) return "the credentials don't come to the tenant's schema";
  if (report.missingTables.length > 0) {
    return `required tables are missing: ${report.missingTables.join(', ')}`;
  }
  // Which other database it is, is not the caller's business.
  if (report.openDatabases.length > 0)
    return "the credentials open a database that isn't the tenant's";
  if (report.openSchemas.length > 0) return "the credentials open a schema that isn't the tenant's";
  if (report.createsSchemas && !reach.createSchemas) return 'the credentials may make schemas';
  if (report.excessRights.length > 0) return `the login role has ${report.excessRights.join(', ')}`;
  if (report.memberOf.some((role) => role !== database.ownerRole)) {
    return 'the login role is a member of a role that is not its owner role';
  }
  return null;
}
