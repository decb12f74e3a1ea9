import { reportAccess, type AccessReport } from '../../postgres/access.ts';
import { connectionOptions } from '../../postgres/connection.ts';
import { markerPrefix } from '../names.ts';
import { isolationOf } from '../isolation/index.ts';
import { passwordOf, StepFailure, type Step, type StepContext } from '../step.ts';

/** Connects with the tenant's own credentials, as the tenant will, and asks what they reach. */
export const verifyConnection: Step = {
  name: 'verify_connection',

  async run(context) {
    const { cluster, services, signal } = context;
    const { requiredTenantTables } = services.settings;
    const closed = await services.watch.closedDatabases(cluster);
    const options = connectionOptions(connectionStringOf(context), {
      applicationName: 'tenantry verification',
      statementTimeoutMs: 30_000,
    });
    const report = await cluster.withLogin(
      options,
      (client) => reportAccess(client, requiredTenantTables, closed, markerPrefix),
      signal,
    );
    const problem = problemOf(report, context);
    if (problem !== null) throw new StepFailure(problem);
  },
};

/** The connection string to be stored. */
export function connectionStringOf(context: StepContext): string {
  const { cluster, database } = context;
  return cluster.urlFor(database.databaseName, {
    user: database.loginRole,
    password: passwordOf(context),
  });
}

function problemOf(report: AccessReport, { database }: StepContext): string | null {
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
