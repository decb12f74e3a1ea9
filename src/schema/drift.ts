import { driftKinds, listDrift, type DriftFinding } from '../control/drift.ts';
import { builder } from './builder.ts';

/** More than anybody reads: what is not shown is shown once the first ones are mended. */
const mostFindings = 1000;

const meanings: Readonly<Record<(typeof driftKinds)[number], string>> = {
  ORPHAN: 'It was made for a tenant that is not there, or is not what its tenant has.',
  MISSING: 'It should be there, and is not.',
  UNMARKED: 'It should carry its tenant’s marker, and does not.',
  WRONG_OWNER: 'It does not belong to the cluster’s admin.',
  WRONG_GRANTS: 'Somebody has too many rights, or too few.',
  WRONG_VERSION: 'Its own ledger of migrations says something else than the registry.',
  HALF_DROPPED: 'A drop of it was interrupted: nobody can connect to it.',
  OPEN_SESSION: 'It is a login that is closed, and has sessions that do not end.',
  LEFTOVER_ROLE:
    'A role without login, password and memberships that cannot be dropped yet, since others gave it rights: it is dropped when they are gone.',
};

const DriftKindEnum = builder.enumType('DriftKind', {
  description: 'How a cluster differs from the registry.',
  values: Object.fromEntries(
    driftKinds.map((kind) => [kind, { description: meanings[kind] }]),
  ) as Record<(typeof driftKinds)[number], { description: string }>,
});

const DriftFindingType = builder.objectRef<DriftFinding>('DriftFinding').implement({
  description: 'Something on a cluster that is not as the registry has it.',
  fields: (t) => ({
    kind: t.expose('kind', { type: DriftKindEnum, nullable: false, description: 'What is wrong.' }),
    cluster: t.exposeString('cluster', { nullable: false, description: 'Name of the cluster.' }),
    objectName: t.exposeString('objectName', {
      nullable: false,
      description: 'A database, a role, or a schema behind its database and a dot.',
    }),
    tenantId: t.exposeID('tenantId', {
      nullable: true,
      description: 'The tenant that it is or was made for, where one is known.',
    }),
    detail: t.exposeString('detail', {
      nullable: false,
      description: 'What exactly, and what comes of it.',
    }),
    firstSeenAt: t.expose('firstSeenAt', {
      type: 'DateTime',
      nullable: false,
      description: 'When it was found for the first time.',
    }),
  }),
});

builder.queryField('driftReport', (t) =>
  t.field({
    type: [DriftFindingType],
    nullable: { list: true, items: false },
    authScopes: { permission: 'fleet:read' },
    description:
      'What the last comparison of the clusters with the registry found, the oldest finding first; at most 1000. See RECONCILE_INTERVAL_SECONDS.',
    resolve: (_root, _args, { gateway }) => listDrift(gateway.control, mostFindings),
  }),
);
