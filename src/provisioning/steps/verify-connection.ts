import type pg from 'pg';
import { PassingError } from '../../postgres/error-codes.ts';
import { revokeRoles } from '../../postgres/roles.ts';
import { isTenantLogin } from '../names.ts';
import { reportReach, type ReachReport, type RightsReport } from '../../postgres/access.ts';
import type { TenantDatabase } from '../../control/tenant-databases.ts';
import { isolationOf } from '../isolation/index.ts';
import type { Reach } from '../isolation/isolation.ts';
import { StepFailure, type PlaceContext, type Step } from '../step.ts';
import { tenantLoginOptions } from '../tenant-login.ts';
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
  const expected = isolationOf(context.database.isolation).reach(context.database);
  // Both at once; the one that is lost when the other fails is nobody's concern.
  const [reached, rights] = await Promise.all([
    reachOf(context, expected.schema),
    rightsOf(context),
  ]);
  await refuseGifts(context, rights);
  const problem = problemOf(reached, rights, context.database, expected);
  if (problem !== null) throw new StepFailure(problem);
}

/** What the tenant's own session says. */
async function reachOf(context: PlaceContext, schema: string): Promise<ReachReport> {
  const { cluster, database, findings, services, signal } = context;
  const schemas =
    database.isolation === 'SCHEMA'
      ? await services.neighbours.schemas(cluster, database.databaseName)
      : [];
  const ask = (client: pg.ClientBase): Promise<ReachReport> =>
    reportReach(client, schema, services.settings.requiredTenantTables, schemas);
  const { login } = findings;
  delete findings.login; // one that fails is opened anew
  if (login !== undefined) return login.use(ask, signal);
  return cluster.withLogin(tenantLoginOptions(context), ask, signal);
}

/** What the server's privilege functions say of its roles. */
async function rightsOf({ cluster, database, services }: PlaceContext): Promise<RightsReport> {
  const shared =
    database.isolation === 'SCHEMA'
      ? await services.sharedDatabases.current(cluster, database.databaseName)
      : null;
  return services.rights.report(cluster, {
    login: database.loginRole,
    owner: database.ownerRole,
    database: database.databaseName,
    group: shared?.groupRole ?? null,
  });
}

/**
 * Takes away memberships in other tenants' logins: before PostgreSQL 16 a role may make any other a
 * member of itself, and no tenant's creation must fail by what another one does.
 *
 * @throws PassingError when there were some: what was found is asked again
 */
async function refuseGifts(
  { cluster, database, signal }: PlaceContext,
  { memberOf }: RightsReport,
): Promise<void> {
  const gifts = memberOf.filter(isTenantLogin);
  if (gifts.length === 0) return;
  const members = [database.loginRole, database.ownerRole];
  await cluster.admin((client) => revokeRoles(client, gifts, members), signal);
  throw new PassingError('another tenant had made it a member of its own login');
}

function problemOf(
  reached: ReachReport,
  rights: RightsReport,
  database: TenantDatabase,
  expected: Reach,
): string | null {
  if (reached.database !== database.databaseName) return 'the credentials open another database';
  if (reached.schema !== expected.schema)
    return "the credentials don't come to the tenant's schema";
  if (reached.missingTables.length > 0) {
    return `required tables are missing: ${reached.missingTables.join(', ')}`;
  }
  // Which other database it is, is not the caller's business.
  if (rights.openDatabases.length > 0)
    return "the credentials open a database that isn't the tenant's";
  if (reached.openSchemas.length > 0)
    return "the credentials open a schema that isn't the tenant's";
  if (rights.createsSchemas && !expected.createSchemas) return 'the credentials may make schemas';
  if (rights.excessRights.length > 0) return `the login role has ${rights.excessRights.join(', ')}`;
  if (rights.memberOf.length > 0) {
    return 'the login role is a member of a role that is not its owner role';
  }
  return null;
}
