// What differs between a cluster and the registry: asked of lists, so that it is tested without either.
import type { Drift } from '../control/drift.ts';
import type { Registered, Remains } from '../control/registered.ts';
import type { DatabaseEntry, RoleEntry, SchemaEntry } from '../postgres/inventory.ts';
import { readMarker, serviceRoleName } from './names.ts';

/** What a cluster has, as far as it carries a marker or a registered name. */
export interface ClusterInventory {
  readonly databases: readonly DatabaseEntry[];
  readonly roles: readonly RoleEntry[];
  /** By shared database; one that could not be looked into is not there. */
  readonly schemas: ReadonlyMap<string, readonly SchemaEntry[]>;
}

/**
 * What the registry has on it: read before the cluster was looked at and after, since it changes
 * meanwhile. What has to be there is so in both; what may be there, in one of them.
 */
export interface RegistryViews {
  readonly before: readonly Registered[];
  readonly after: readonly Registered[];
  /** By operation. */
  readonly remains: ReadonlyMap<string, Remains>;
  /** Id of this control plane. */
  readonly installation: string;
}

/** What is to be told, and what is to be removed. */
export interface Comparison {
  readonly findings: readonly Drift[];
  /** Orphans that are this control plane's to drop, by tenant. */
  readonly forfeit: readonly Remains[];
  /** Orphaned roles that are good for nothing any more: where something holds on to one, it is a leftover. */
  readonly disarmed: ReadonlySet<string>;
  /** Databases whose interrupted drop is this control plane's to finish. */
  readonly halfDropped: readonly { readonly name: string; readonly remains: Remains }[];
}

type Entry = { readonly objectType: Drift['objectType']; readonly objectName: string } & (
  | { readonly objectType: 'DATABASE'; readonly entry: DatabaseEntry }
  | { readonly objectType: 'SCHEMA'; readonly entry: SchemaEntry }
  | { readonly objectType: 'ROLE'; readonly entry: RoleEntry }
);

/** Compares a cluster with the registry. */
export function compare(inventory: ClusterInventory, views: RegistryViews): Comparison {
  const { before, after } = views;
  const known = new Map([...before, ...after].map((one) => [one.id, one]));
  const earlier = new Map(before.map((one) => [one.id, one]));
  const settled = after.filter((one) => {
    const then = earlier.get(one.id);
    return one.settled && then?.settled === true && then.source === one.source;
  });
  const entries = entriesOf(inventory);
  const byName = new Map(entries.map((one) => [keyOf(one), one]));

  const groups = groupsOf(inventory, [...known.values()]);
  const findings: Drift[] = settled.flatMap((one) =>
    checkSettled(one, byName, inventory, groups.get(one.databaseName) ?? null),
  );
  const forfeit = new Map<string, Remains>();
  const halfDropped: { name: string; remains: Remains }[] = [];
  const disarmed = new Set<string>();
  const expected = new Set([...known.values()].flatMap(namesOf).map(keyOf));

  for (const one of entries) {
    const marking = readMarker(one.entry.marker);
    if (marking?.kind === 'template' && one.objectType === 'ROLE') {
      const dropping = [earlier.get(marking.id), known.get(marking.id)];
      if (dropping.every((template) => template?.dropping === true)) {
        findings.push({ ...nameOf(one), kind: 'LEFTOVER_ROLE', tenantId: null, detail: leftover });
      }
      continue;
    }
    if (marking?.kind !== 'tenant' || marking.operationId === null) continue;
    const live = known.get(marking.id);
    const finding = { ...nameOf(one), tenantId: marking.id };
    if (live !== undefined) {
      if (live.stuck) {
        const detail = 'its creation is being undone, and the undo does not end: see the log';
        findings.push({ ...finding, kind: 'ORPHAN', detail });
      } else if (isSettled(live, settled) && !expected.has(keyOf(one))) {
        const detail = 'carries a tenant’s marker, but is not what the registry has for it';
        findings.push({ ...finding, kind: 'ORPHAN', detail });
      }
      continue;
    }
    const remains = views.remains.get(marking.operationId);
    const made = remains?.tenantId === marking.id ? remains : undefined;
    if (made === undefined && marking.installation !== views.installation) continue; // another's
    const half = one.objectType === 'DATABASE' && one.entry.halfDropped;
    if (half && made !== undefined) halfDropped.push({ name: one.entry.name, remains: made });
    if (made?.forfeit === true) forfeit.set(made.tenantId, made);
    if (made !== undefined && made.operationStatus !== 'SUCCEEDED' && isDisarmed(one)) {
      // Before the grace period is over, it is one only where something holds on to it.
      const kind = made.forfeit ? 'LEFTOVER_ROLE' : 'ORPHAN';
      const detail = made.forfeit ? leftover : fateOf(made, false);
      if (!made.forfeit) disarmed.add(one.objectName);
      findings.push({ ...finding, kind, detail });
      continue;
    }
    const kind = half ? 'HALF_DROPPED' : 'ORPHAN';
    findings.push({ ...finding, kind, detail: fateOf(made, half) });
  }
  return { findings, forfeit: [...forfeit.values()], halfDropped, disarmed };
}

/** Replaced by what keeps it from being dropped, which the cluster is asked for. */
const leftover = 'it is dropped in one of the next turns';

/** Whether a role is good for nothing: as an undo leaves one that it cannot drop. */
function isDisarmed(one: Entry): boolean {
  return one.objectType === 'ROLE' && !one.entry.canLogin && one.entry.memberOf.length === 0;
}

/** What an operator reads of an object that belongs to nothing in the registry. */
function fateOf(remains: Remains | undefined, half: boolean): string {
  if (remains === undefined) {
    return 'made by this control plane for an operation that it does not know (restored from a backup?): never dropped by itself';
  }
  if (half) return 'its drop was interrupted, and is finished';
  const { forfeit, operationStatus } = remains;
  if (operationStatus === 'SUCCEEDED') {
    return 'of a tenant that is gone, whose creation succeeded: never dropped by itself';
  }
  const was =
    operationStatus === null ? 'of a standby that was given up' : 'its creation was undone';
  return forfeit ? `${was}; it is dropped` : `${was}; it is dropped after the grace period`;
}

function isSettled(one: Registered, settled: readonly Registered[]): boolean {
  return settled.some(({ id }) => id === one.id);
}

type Name = Pick<Drift, 'objectType' | 'objectName'>;

function keyOf({ objectType, objectName }: Name): string {
  return `${objectType} ${objectName}`;
}

function nameOf({ objectType, objectName }: Name): Name {
  return { objectType, objectName };
}

function entriesOf({ databases, roles, schemas }: ClusterInventory): Entry[] {
  return [
    ...databases.map(
      (entry) => ({ objectType: 'DATABASE', objectName: entry.name, entry }) as const,
    ),
    ...roles.map((entry) => ({ objectType: 'ROLE', objectName: entry.name, entry }) as const),
    ...[...schemas].flatMap(([database, list]) =>
      list.map((entry) => {
        return { objectType: 'SCHEMA', objectName: `${database}.${entry.name}`, entry } as const;
      }),
    ),
  ];
}

/** The names under which something stands on its cluster. */
function namesOf(one: Registered): Name[] {
  const place: Name =
    one.schemaName === null
      ? { objectType: 'DATABASE', objectName: one.databaseName }
      : { objectType: 'SCHEMA', objectName: `${one.databaseName}.${one.schemaName}` };
  const service = one.loginRole === null ? null : serviceRoleName(one.id);
  const roles = [one.ownerRole, one.loginRole, service].filter((role) => role !== null);
  return [place, ...roles.map((objectName): Name => ({ objectType: 'ROLE', objectName }))];
}

/** What is wrong with something that has to be there. */
function checkSettled(
  one: Registered,
  byName: ReadonlyMap<string, Entry>,
  { schemas }: ClusterInventory,
  group: string | null,
): Drift[] {
  const tenantId = one.source === 'TENANT' ? one.id : null;
  return namesOf(one).flatMap((name): Drift[] => {
    const about = (kind: Drift['kind'], detail: string): Drift => ({
      kind,
      ...nameOf(name),
      tenantId,
      detail,
    });
    const found = byName.get(keyOf(name));
    if (found === undefined) {
      if (isService(one, name) && !one.hasService) return []; // made by recovery, or when it is needed
      // Whether its database is missing is told of the database.
      if (name.objectType === 'SCHEMA' && !schemas.has(one.databaseName)) return [];
      return [about('MISSING', `${describe(one)} should have it`)];
    }
    const problems: Drift[] = [];
    const marking = readMarker(found.entry.marker);
    if (marking === null) problems.push(about('UNMARKED', 'carries no marker'));
    else if (marking.id !== one.id) problems.push(about('UNMARKED', 'carries another marker'));
    if (found.objectType === 'ROLE') {
      problems.push(
        ...roleProblems(one, found.entry, group).map((text) => about('WRONG_GRANTS', text)),
      );
      return problems;
    }
    if (found.objectType === 'DATABASE' && found.entry.halfDropped) {
      problems.push(about('HALF_DROPPED', 'a drop of it was interrupted: nobody can connect'));
    }
    if (!found.entry.ownedByAdmin) {
      problems.push(about('WRONG_OWNER', 'does not belong to the cluster’s admin'));
    }
    const text = grantProblem(one, found.entry.grantees);
    if (text !== null) problems.push(about('WRONG_GRANTS', text));
    return problems;
  });
}

function describe({ source }: Registered): string {
  const names = {
    TENANT: 'the tenant',
    STANDBY: 'a standby',
    TEMPLATE: 'a template',
    SHARED: 'the control plane',
  };
  return names[source];
}

function grantProblem(one: Registered, grantees: readonly string[]): string | null {
  if (grantees.includes('')) return 'PUBLIC has rights on it';
  if (one.ownerRole === null) return null; // shared: each of its tenants has rights
  if (!grantees.includes(one.ownerRole))
    return `its owner role ${one.ownerRole} has no rights on it`;
  const others = grantees.filter((role) => role !== one.ownerRole);
  return others.length === 0 ? null : `others have rights on it: ${others.join(', ')}`;
}

function isService(one: Registered, { objectName, objectType }: Name): boolean {
  return objectType === 'ROLE' && objectName === serviceRoleName(one.id);
}

/** The roles whose members may connect to shared databases, by the names of these. */
function groupsOf(
  { roles }: ClusterInventory,
  registered: readonly Registered[],
): ReadonlyMap<string, string> {
  const shared = new Map(
    registered.flatMap(({ databaseName, id, source }) =>
      source === 'SHARED' ? [[id, databaseName]] : [],
    ),
  );
  return new Map(
    roles.flatMap(({ marker, name }) => {
      const marking = readMarker(marker);
      const database = marking?.kind === 'shared' ? shared.get(marking.id) : undefined;
      return database === undefined ? [] : [[database, name]];
    }),
  );
}

/** @param group the owner roles of tenants of a shared database are its members; null: there is none */
function roleProblems(one: Registered, role: RoleEntry, group: string | null): string[] {
  const problems: string[] = [];
  if (role.excessRights.length > 0) problems.push(`it has ${role.excessRights.join(', ')}`);
  const isLogin = role.name === one.loginRole;
  const isMember = isLogin || role.name === serviceRoleName(one.id);
  const allowed: (string | null)[] = isMember ? [one.ownerRole] : [group];
  const others = role.memberOf.filter((name) => !allowed.includes(name));
  if (others.length > 0) problems.push(`it is a member of ${others.join(', ')}`);
  if (isMember && !role.memberOf.includes(one.ownerRole ?? '')) {
    problems.push('it is not a member of its owner role');
  }
  if (!isMember && group !== null && one.hasService && !role.memberOf.includes(group)) {
    problems.push(`it is not a member of ${group}, and cannot connect`);
  }
  if (!isMember && role.canLogin) problems.push('an owner role may log in');
  if (isLogin && one.mayLogIn !== null && role.canLogin !== one.mayLogIn) {
    problems.push(role.canLogin ? 'it may log in, and must not' : 'it may not log in');
  }
  return problems.length === 0 ? [] : [problems.join('; ')];
}
