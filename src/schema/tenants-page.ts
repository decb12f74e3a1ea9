import { listTenantsByPage } from '../control/tenant-lists.ts';
import type { Tenant } from '../control/tenants.ts';
import { Refusal } from '../errors.ts';
import { scopeOf } from '../provisioning/caller.ts';
import { builder } from './builder.ts';
import { maxLimit } from './pages.ts';
import { TenantStatusEnum, TenantType } from './tenant.ts';

interface TenantsPage {
  readonly nodes: readonly Tenant[];
  readonly page: number;
  readonly limit: number;
  readonly total: number;
}

const TenantsPageType = builder.objectRef<TenantsPage>('TenantsPage').implement({
  description: 'One page of tenants, by its number.',
  fields: (t) => ({
    nodes: t.field({
      type: [TenantType],
      nullable: { list: false, items: false },
      description: 'The tenants of this page.',
      resolve: (page) => page.nodes,
    }),
    page: t.exposeInt('page', { nullable: false, description: 'Which page, from 1.' }),
    limit: t.exposeInt('limit', { nullable: false, description: 'How many a page.' }),
    total: t.exposeInt('total', { nullable: false, description: 'How many on all pages.' }),
    pages: t.int({
      nullable: false,
      description: 'How many pages.',
      resolve: ({ total, limit }) => Math.ceil(total / limit),
    }),
  }),
});

builder.queryField('tenantsPage', (t) =>
  t.field({
    type: TenantsPageType,
    nullable: true,
    authScopes: { permission: 'tenant:read' },
    complexity: ({ limit }) => ({ field: 1, multiplier: limit }),
    description:
      'Tenants by page number, newest last, for clients that count pages; `tenants` does not drift.',
    args: {
      page: t.arg.int({ required: true, description: 'Which page, from 1.' }),
      limit: t.arg.int({ required: true, description: 'How many a page, 1 to 100.' }),
      status: t.arg({
        type: [TenantStatusEnum],
        description: 'In one of these statuses. Default: all but FAILED and PURGED.',
      }),
    },
    resolve: async (_root, { page, limit, status }, { caller, gateway }) => {
      if (page < 1) throw new Refusal('BAD_USER_INPUT', 'page must be at least 1');
      if (limit < 1 || limit > maxLimit) {
        throw new Refusal('BAD_USER_INPUT', `limit must be 1 to ${maxLimit}`);
      }
      const { tenants, total } = await listTenantsByPage(gateway.control, scopeOf(caller), {
        number: page,
        limit,
        status: status ?? null,
      });
      return { nodes: tenants, page, limit, total };
    },
  }),
);
