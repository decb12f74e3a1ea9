import { callerKinds, type Caller } from '../provisioning/caller.ts';
import { builder } from './builder.ts';
import { described } from './inputs.ts';

const ViewerKind = builder.enumType('ViewerKind', {
  description: 'How a caller proved who it is.',
  values: described(callerKinds, {
    OPERATOR: 'The local operator: no credentials, on the same machine.',
    USER: 'A person or service with a token.',
    TENANT: 'A tenant with its API key.',
  }),
});

const Viewer = builder.objectRef<Caller>('Viewer').implement({
  description: 'Who asks.',
  fields: (t) => ({
    subject: t.exposeString('subject', { nullable: false, description: 'Name of the caller.' }),
    kind: t.expose('kind', {
      type: ViewerKind,
      nullable: false,
      description: 'How it proved who it is.',
    }),
    partner: t.exposeString('partner', {
      nullable: true,
      description: 'Whose tenants it sees; null: everybody’s.',
    }),
    roles: t.stringList({
      nullable: false,
      description: 'Bundles of permissions it has.',
      resolve: (caller) => caller.roles,
    }),
    permissions: t.stringList({
      nullable: false,
      description: 'All it may do.',
      resolve: (caller) => [...caller.permissions].sort(),
    }),
  }),
});

builder.queryField('viewer', (t) =>
  t.field({
    type: Viewer,
    nullable: true,
    description: 'Who you are to this API.',
    resolve: (_root, _args, { caller }) => caller,
  }),
);
