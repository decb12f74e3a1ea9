import { tenantDatabaseStatuses, type TenantDatabase as Row } from '../control/tenant-databases.ts';
import { isolationOf } from '../provisioning/isolation/index.ts';
import { builder } from './builder.ts';
import { described } from './inputs.ts';

const TenantDatabaseStatus = builder.enumType('TenantDatabaseStatus', {
  description: "State of a tenant's database.",
  values: described(tenantDatabaseStatuses, {
    PENDING: 'Being made.',
    PROVISIONED: 'Ready.',
    OUTDATED: 'Lacks tenant migrations.',
    UNREACHABLE: 'Did not answer at the last check.',
    DROPPED: 'Gone.',
  }),
});

export const TenantDatabase = builder.objectRef<Row>('TenantDatabase').implement({
  description: "Where a tenant's tables live.",
  fields: (t) => ({
    cluster: t.exposeString('cluster', {
      nullable: false,
      description: 'Name of the PostgreSQL server.',
    }),
    databaseName: t.exposeString('databaseName', {
      nullable: false,
      description: 'The PostgreSQL database.',
    }),
    schemaName: t.exposeString('schemaName', {
      nullable: true,
      description: 'The PostgreSQL schema; null when the whole database is the tenant’s.',
    }),
    migrationVersion: t.exposeString('migrationVersion', {
      nullable: true,
      description: 'Newest tenant migration applied.',
    }),
    status: t.expose('status', {
      type: TenantDatabaseStatus,
      nullable: false,
      description: 'Whether it is ready, as the last check found it.',
    }),
    checkedAt: t.expose('checkedAt', {
      type: 'DateTime',
      nullable: true,
      description: 'When its health was last looked at; null: never.',
    }),
    sizeBytes: t.field({
      type: 'BigInt',
      nullable: true,
      complexity: 10, // asks the cluster
      description: 'Size on disk; null when it is not there, or its cluster does not answer.',
      resolve: (database, _args, { gateway }) => {
        const cluster = gateway.clusters.get(database.cluster);
        if (cluster === undefined) return null;
        return isolationOf(database.isolation)
          .sizeBytes(cluster, database)
          .catch(() => null);
      },
    }),
  }),
});
