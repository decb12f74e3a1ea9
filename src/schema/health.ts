import { healthStatuses, type TenantHealth as Health } from '../provisioning/health.ts';
import { builder } from './builder.ts';
import { described } from './inputs.ts';
import { TenantType } from './tenant.ts';
import { TenantDatabase } from './tenant-database.ts';

const HealthStatus = builder.enumType('HealthStatus', {
  description: "How a tenant's database is.",
  values: described(healthStatuses, {
    HEALTHY: 'Its own credentials open it, and all is there.',
    UNHEALTHY: 'They open it, but tables or tenant migrations are missing.',
    ERROR: 'They do not open it.',
  }),
});

const TenantHealth = builder.objectRef<Health>('TenantHealth').implement({
  description: "How a tenant's database is, as its own credentials find it now.",
  fields: (t) => ({
    tenant: t.expose('tenant', { type: TenantType, nullable: false, description: 'The tenant.' }),
    status: t.expose('status', { type: HealthStatus, nullable: false, description: 'How it is.' }),
    reachable: t.exposeBoolean('reachable', {
      nullable: false,
      description: 'Whether its own credentials open it.',
    }),
    schemaValid: t.exposeBoolean('schemaValid', {
      nullable: false,
      description: 'Whether the required tables are there, and no tenant migration is missing.',
    }),
    migrationVersion: t.exposeString('migrationVersion', {
      nullable: true,
      description: 'Newest entry of its own ledger of migrations.',
    }),
    latencyMs: t.exposeFloat('latencyMs', {
      nullable: true,
      description: 'Milliseconds to connect and look; null when it was not reached.',
    }),
    checkedAt: t.expose('checkedAt', {
      type: 'DateTime',
      nullable: false,
      description: 'When it was looked at.',
    }),
    error: t.exposeString('error', { nullable: true, description: 'What is wrong.' }),
  }),
});

/** Each one is a connection of its own. */
const lookCost = 10;

builder.queryField('tenantHealth', (t) =>
  t.field({
    type: [TenantHealth],
    nullable: { list: true, items: false },
    authScopes: (_root, _args, { caller }) =>
      caller.permissions.has('fleet:read') ? true : { permission: 'tenant:read' },
    complexity: ({ ids }) => ({ field: lookCost, multiplier: ids?.length ?? 50 }),
    description:
      'Connects to tenants’ databases with their own credentials and looks whether all is there. Tenants that are not ACTIVE, and those of others, are left out; with `fleet:read` everybody’s are there.',
    args: {
      ids: t.arg.idList({ description: 'UUIDs of tenants; absent: all that are yours.' }),
    },
    resolve: (_root, { ids }, { caller, gateway, signal }) =>
      gateway.health.tenantHealth(caller, ids ?? null, signal),
  }),
);

builder.objectField(TenantDatabase, 'health', (t) =>
  t.field({
    type: TenantHealth,
    nullable: false,
    complexity: lookCost,
    description: 'How it is now: connects with the tenant’s own credentials.',
    resolve: (database, _args, { loaders }) => loaders.health.load(database.tenantId),
  }),
);
