import { JSONResolver } from 'graphql-scalars';
import { auditOrder, listAudit, type AuditEntry } from '../control/audit.ts';
import { Refusal } from '../errors.ts';
import { auditScopeOf } from '../provisioning/caller.ts';
import { looksLikeUuid } from '../provisioning/names.ts';
import { builder } from './builder.ts';
import { refuseUnstorable, withoutNulls } from './inputs.ts';
import { pageComplexity, pageRequest, toConnection, type ListOrder } from './pages.ts';
import { TenantStatusEnum } from './tenant.ts';

builder.addScalarType('JSON', JSONResolver);

const newestFirst: ListOrder = {
  name: 'AT',
  type: auditOrder.type,
  idType: auditOrder.idType,
};

const AuditEntryType = builder.objectRef<AuditEntry>('AuditEntry').implement({
  description: 'One change: who made it, and to what.',
  fields: (t) => ({
    id: t.id({
      nullable: false,
      description: 'Number of the row.',
      resolve: ({ id }) => String(id),
    }),
    at: t.expose('at', { type: 'DateTime', nullable: false, description: 'When.' }),
    actor: t.exposeString('actor', { nullable: false, description: 'Subject of the caller.' }),
    partner: t.exposeString('partner', {
      nullable: false,
      description: 'Whose tenant it was done to.',
    }),
    ipAddress: t.exposeString('ipAddress', {
      nullable: true,
      description: 'Address of the client; null where the product went on by itself.',
    }),
    action: t.exposeString('action', {
      nullable: false,
      description: 'Name of the mutation, or of what the product did by itself.',
    }),
    tenantId: t.exposeID('tenantId', { nullable: true, description: 'The tenant.' }),
    fromStatus: t.expose('fromStatus', {
      type: TenantStatusEnum,
      nullable: true,
      description: 'Its status before.',
    }),
    toStatus: t.expose('toStatus', {
      type: TenantStatusEnum,
      nullable: true,
      description: 'Its status afterwards.',
    }),
    outcome: t.exposeString('outcome', {
      nullable: false,
      description: '`ACCEPTED` (an operation began), `SUCCEEDED` or `COMPENSATED`.',
    }),
    requestId: t.exposeString('requestId', {
      nullable: true,
      description: 'Id of the request, in the log too.',
    }),
    details: t.expose('details', {
      type: 'JSON',
      nullable: true,
      description: 'What else there is to tell, such as the names of changed fields.',
    }),
  }),
});

const AuditEntryConnection = builder.connectionObject(
  { type: AuditEntryType, name: 'AuditEntryConnection', description: 'A page of the audit log.' },
  { description: 'An entry in its place in the log.' },
);

const AuditFilter = builder.inputType('AuditFilter', {
  description: 'Which entries; all conditions hold at once.',
  fields: (t) => ({
    tenantId: t.id({ description: 'About this tenant.' }),
    actor: t.string({ description: 'Of this actor.' }),
    action: t.string({ description: 'Of this name, e.g. `deleteTenant`.' }),
    after: t.field({ type: 'DateTime', description: 'After this moment.' }),
    before: t.field({ type: 'DateTime', description: 'Before this moment.' }),
  }),
});

builder.queryField('auditLog', (t) =>
  t.connection(
    {
      type: AuditEntryType,
      nullable: true,
      authScopes: { permission: 'tenant:read' },
      complexity: pageComplexity,
      description:
        'Who changed what, newest first: your own partner’s tenants; with `fleet:read` and no partner, everybody’s.',
      args: { filter: t.arg({ type: AuditFilter, description: 'Which entries.' }) },
      resolve: async (_root, args, { caller, gateway }) => {
        const scope = auditScopeOf(caller);
        if (scope === undefined) throw new Refusal('FORBIDDEN', 'You may not do this');
        const request = pageRequest(args, newestFirst);
        const filter = withoutNulls(args.filter ?? {});
        refuseUnstorable('filter.actor', filter.actor);
        refuseUnstorable('filter.action', filter.action);
        // An id that is no UUID is that of no tenant.
        if (filter.tenantId !== undefined && !looksLikeUuid(filter.tenantId)) {
          filter.tenantId = '00000000-0000-0000-0000-000000000000';
        }
        const page = await listAudit(gateway.control, scope, filter, request);
        return toConnection(page, request, newestFirst);
      },
    },
    AuditEntryConnection,
  ),
);
