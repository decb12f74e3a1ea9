import { listTenants, tenantOrders } from '../control/tenant-lists.ts';
import { findTenant, environments, isolations, tenantStatuses } from '../control/tenants.ts';
import type { Tenant, TenantKey, TenantSettings, TenantStatus } from '../control/tenants.ts';
import { Refusal } from '../errors.ts';
import { scopeOf } from '../provisioning/caller.ts';
import { looksLikeUuid } from '../provisioning/names.ts';
import { ApiKey } from './api-key.ts';
import { builder } from './builder.ts';
import { described, isStorable, refuseUnstorable, withoutNulls } from './inputs.ts';
import { pageComplexity, pageRequest, toConnection } from './pages.ts';
import { TenantDatabase } from './tenant-database.ts';

export const Isolation = builder.enumType('Isolation', {
  description: 'How a tenant is kept apart from the others.',
  values: described(isolations, {
    DATABASE: 'A PostgreSQL database of its own.',
    SCHEMA: "A PostgreSQL schema of its own in the cluster's shared tenant database.",
  }),
});

export const Environment = builder.enumType('Environment', {
  description: 'What the tenant is used for.',
  values: described(environments, {
    DEVELOPMENT: 'Development.',
    STAGING: 'Staging.',
    PRODUCTION: 'Production.',
  }),
});

export const TenantStatusEnum = builder.enumType('TenantStatus', {
  description: 'Where a tenant is in its life.',
  values: described(tenantStatuses, {
    SCHEDULED: 'Will be made later.',
    PROVISIONING: 'Being made.',
    ACTIVE: 'Made, verified and in use.',
    SUSPENDED: 'Kept, but nobody can log in.',
    DELETED: 'Kept until its purge, and can be restored.',
    PURGED: 'Gone.',
    FAILED: 'Could not be made; everything was undone.',
  } satisfies Record<TenantStatus, string>),
});

const TenantLimits = builder.objectRef<TenantSettings['limits']>('TenantLimits').implement({
  description: 'How much a tenant may use.',
  fields: (t) => ({
    users: t.exposeInt('users', { nullable: false, description: 'Users, 1 to 10000.' }),
    storageGb: t.exposeInt('storageGb', {
      nullable: false,
      description: 'Storage in GB, 1 to 1000.',
    }),
  }),
});

const TenantSettingsType = builder.objectRef<TenantSettings>('TenantSettings').implement({
  description: 'Features and limits of a tenant.',
  fields: (t) => ({
    features: t.stringList({
      nullable: false,
      description: 'Features switched on.',
      resolve: (settings) => settings.features,
    }),
    limits: t.field({
      type: TenantLimits,
      nullable: false,
      description: 'How much it may use.',
      resolve: (settings) => settings.limits,
    }),
  }),
});

export const TenantType = builder.objectRef<Tenant>('Tenant').implement({
  description: 'A customer, and the place where its data lives.',
  fields: (t) => ({
    id: t.exposeID('id', { nullable: false, description: 'UUID, the same in every API.' }),
    number: t.exposeInt('number', {
      nullable: false,
      description: '1, 2, 3 …, for clients that want an integer.',
    }),
    partner: t.exposeString('partner', { nullable: false, description: 'Who it belongs to.' }),
    name: t.exposeString('name', {
      nullable: false,
      description: 'As given, 1 to 255 characters.',
    }),
    slug: t.exposeString('slug', { nullable: false, description: 'Unique short name.' }),
    environment: t.expose('environment', {
      type: Environment,
      nullable: false,
      description: 'What it is used for.',
    }),
    status: t.expose('status', {
      type: TenantStatusEnum,
      nullable: false,
      description: 'Where it is in its life.',
    }),
    domain: t.exposeString('domain', { nullable: true, description: 'Unique without case.' }),
    description: t.exposeString('description', { nullable: true, description: 'Free text.' }),
    email: t.exposeString('email', { nullable: true, description: 'Whom to write to.' }),
    phoneNumber: t.exposeString('phoneNumber', { nullable: true, description: 'Whom to call.' }),
    industry: t.exposeString('industry', { nullable: true, description: 'Line of business.' }),
    settings: t.expose('settings', {
      type: TenantSettingsType,
      nullable: false,
      description: 'Features and limits.',
    }),
    isolation: t.expose('isolation', {
      type: Isolation,
      nullable: false,
      description: 'How it is kept apart from the others.',
    }),
    database: t.field({
      type: TenantDatabase,
      nullable: true,
      description: 'Where its tables live.',
      resolve: (tenant, _args, { loaders }) => loaders.databases.load(tenant.id),
    }),
    deletionProtection: t.exposeBoolean('deletionProtection', {
      nullable: false,
      description: 'While set, delete and purge are refused.',
    }),
    version: t.exposeInt('version', { nullable: false, description: 'Rises with every update.' }),
    createdAt: t.expose('createdAt', {
      type: 'DateTime',
      nullable: false,
      description: 'When it was accepted.',
    }),
    updatedAt: t.expose('updatedAt', {
      type: 'DateTime',
      nullable: false,
      description: 'When it last changed.',
    }),
    provisionAt: t.expose('provisionAt', {
      type: 'DateTime',
      nullable: true,
      description: 'When it is, or was, to be made; null: at once.',
    }),
    activatedAt: t.expose('activatedAt', {
      type: 'DateTime',
      nullable: true,
      description: 'When it was ready.',
    }),
    deletedAt: t.expose('deletedAt', {
      type: 'DateTime',
      nullable: true,
      description: 'When it was deleted.',
    }),
    purgeAt: t.expose('purgeAt', {
      type: 'DateTime',
      nullable: true,
      description: 'When it will be gone for good.',
    }),
    lastActivityAt: t.expose('lastActivityAt', {
      type: 'DateTime',
      nullable: true,
      description: 'When its API key was last used.',
    }),
    apiKeys: t.field({
      type: [ApiKey],
      nullable: { list: false, items: false },
      description: 'Its API keys, without the secret part.',
      resolve: (tenant, _args, { loaders }) => loaders.apiKeys.load(tenant.id),
    }),
  }),
});

const TenantConnection = builder.connectionObject(
  { type: TenantType, name: 'TenantConnection', description: 'A page of tenants.' },
  { description: 'A tenant in its place in the list.' },
);

const TenantFilter = builder.inputType('TenantFilter', {
  description:
    'Which tenants; all conditions hold at once. FAILED and PURGED ones only when asked for by status.',
  fields: (t) => ({
    status: t.field({ type: [TenantStatusEnum], description: 'In one of these statuses.' }),
    environment: t.field({ type: [Environment], description: 'Used for one of these.' }),
    isolation: t.field({ type: [Isolation], description: 'Kept apart in one of these ways.' }),
    cluster: t.string({ description: 'On this cluster.' }),
    search: t.string({ description: 'Part of name, slug or domain, without case.' }),
    createdAfter: t.field({ type: 'DateTime', description: 'Accepted after this moment.' }),
    createdBefore: t.field({ type: 'DateTime', description: 'Accepted before this moment.' }),
    behindMigrations: t.boolean({
      description:
        'true: whose database lacks tenant migrations; false: whose database has them all.',
    }),
  }),
});

const TenantOrderField = builder.enumType('TenantOrderField', {
  description: 'What tenants can be sorted by.',
  values: described(Object.keys(tenantOrders) as (keyof typeof tenantOrders)[], {
    CREATED_AT: 'When they were accepted.',
    NAME: 'Their names.',
    SLUG: 'Their slugs.',
    UPDATED_AT: 'When they last changed.',
  }),
});

const OrderDirection = builder.enumType('OrderDirection', {
  description: 'Which way to sort.',
  values: described(['ASC', 'DESC'], { ASC: 'Smallest first.', DESC: 'Largest first.' }),
});

const TenantOrder = builder.inputType('TenantOrder', {
  description: 'How to sort tenants.',
  fields: (t) => ({
    field: t.field({ type: TenantOrderField, required: true, description: 'By what.' }),
    direction: t.field({ type: OrderDirection, required: true, description: 'Which way.' }),
  }),
});

builder.queryField('tenant', (t) =>
  t.field({
    type: TenantType,
    nullable: true,
    authScopes: { permission: 'tenant:read' },
    description:
      'One tenant, by exactly one of its id, number, slug or domain; null when it is not there, or not yours.',
    args: {
      id: t.arg.id({ description: 'Its UUID.' }),
      number: t.arg.int({ description: 'Its number.' }),
      slug: t.arg.string({ description: 'Its slug.' }),
      domain: t.arg.string({ description: 'Its domain, without case.' }),
    },
    resolve: (_root, args, { caller, gateway }) => {
      const key = tenantKey(args);
      return key === null ? null : findTenant(gateway.control, scopeOf(caller), key);
    },
  }),
);

builder.queryField('tenants', (t) =>
  t.connection(
    {
      type: TenantType,
      nullable: true,
      authScopes: { permission: 'tenant:read' },
      complexity: pageComplexity,
      description: 'Tenants, newest first unless sorted otherwise.',
      args: {
        filter: t.arg({ type: TenantFilter, description: 'Which ones.' }),
        orderBy: t.arg({ type: TenantOrder, description: 'In which order.' }),
      },
      resolve: async (_root, args, { caller, gateway }) => {
        const field = args.orderBy?.field ?? 'CREATED_AT';
        const order = { field, descending: (args.orderBy?.direction ?? 'DESC') === 'DESC' };
        const listOrder = { name: field, type: tenantOrders[field].type };
        const request = pageRequest(args, listOrder);
        const { behindMigrations: behind, ...filter } = withoutNulls(args.filter ?? {});
        refuseUnstorable('filter.search', filter.search);
        refuseUnstorable('filter.cluster', filter.cluster);
        const newest = gateway.tenantMigrations.version;
        const page = await listTenants(
          gateway.control,
          scopeOf(caller),
          { ...filter, ...(behind === undefined ? {} : { behindMigrations: { behind, newest } }) },
          order,
          request,
        );
        return toConnection(page, request, listOrder);
      },
    },
    TenantConnection,
  ),
);

function tenantKey(args: {
  readonly id?: string | null | undefined;
  readonly number?: number | null | undefined;
  readonly slug?: string | null | undefined;
  readonly domain?: string | null | undefined;
}): TenantKey | null {
  const given = [args.id, args.number, args.slug, args.domain].filter((value) => value != null);
  if (given.length !== 1) {
    throw new Refusal('BAD_USER_INPUT', 'Give exactly one of id, number, slug and domain');
  }
  if (args.number != null) return { number: args.number };
  if (args.id != null) return looksLikeUuid(args.id) ? { id: args.id } : null;
  if (!isStorable(args.slug ?? args.domain ?? '')) return null;
  return args.slug == null ? { domain: args.domain ?? '' } : { slug: args.slug };
}
