import { failure, type Failure } from '../errors.ts';
import type { ClusterWatch } from './cluster-watch.ts';

/** A cluster as far as placing tenants goes. */
export interface ClusterRoom {
  readonly name: string;
  /** Its share of new tenants, beside the others'. 0: only when named. */
  readonly weight: number;
  /** Null: no limit. */
  readonly maxTenants: number | null;
}

/** Where a new tenant goes, or why nowhere. */
export type Place = { readonly cluster: ClusterRoom } | { readonly failure: Failure };

/** Where tenants go. Knows clusters by name alone. */
export interface Placement {
  /**
   * Chooses the cluster of a new tenant: the one that the caller named, or one of those that are up,
   * by weight.
   *
   * @param full clusters that turned out to have no room
   */
  place(wanted: string | undefined, full?: ReadonlySet<string>): Place;
  /** Why work on this cluster would fail at once; null: it would not. */
  problemOf(name: string): string | null;
}

export interface PlacementOptions {
  /** In the order of preference. */
  readonly clusters: readonly ClusterRoom[];
  readonly watch: Pick<ClusterWatch, 'takesTenants'>;
}

const noneFull: ReadonlySet<string> = new Set();

/** Places tenants for one instance. */
export function createPlacement({ clusters, watch }: PlacementOptions): Placement {
  const byName = new Map(clusters.map((cluster) => [cluster.name, cluster]));
  let credits: Credits = new Map();

  function placeNamed(name: string, full: ReadonlySet<string>): Place {
    const field = ['input', 'cluster'];
    const cluster = byName.get(name);
    if (cluster === undefined) {
      const known = [...byName.keys()].join(', ');
      return { failure: failure('INVALID', `cluster must be one of: ${known}`, field) };
    }
    if (full.has(name)) {
      return { failure: failure('LIMIT_EXCEEDED', `Cluster ${name} is full`, field) };
    }
    if (watch.takesTenants(name)) return { cluster };
    return { failure: failure('UNAVAILABLE', `Cluster ${name} is down; try again later`, field) };
  }

  function placeAnywhere(full: ReadonlySet<string>): Place {
    const open = clusters.filter(({ weight }) => weight > 0);
    const withRoom = open.filter(({ name }) => !full.has(name));
    const chosen = chooseByWeight(
      withRoom.filter(({ name }) => watch.takesTenants(name)),
      credits,
    );
    if (chosen !== null) {
      credits = chosen.credits;
      return { cluster: chosen.cluster };
    }
    if (open.length === 0) {
      const message = 'No cluster takes new tenants unless it is named';
      return { failure: failure('UNAVAILABLE', message) };
    }
    // One that is down may have room once it is back.
    if (withRoom.length === 0) {
      return { failure: failure('LIMIT_EXCEEDED', 'All clusters are full') };
    }
    const message = 'No cluster can take the tenant at present; try again later';
    return { failure: failure('UNAVAILABLE', message) };
  }

  return {
    place: (wanted, full = noneFull) =>
      wanted === undefined ? placeAnywhere(full) : placeNamed(wanted, full),

    problemOf(name) {
      if (!byName.has(name)) return `its cluster ${name} is not configured`;
      return watch.takesTenants(name) ? null : `its cluster ${name} is down`;
    },
  };
}

/** What each cluster has waited for so far, by name. */
export type Credits = ReadonlyMap<string, number>;

/**
 * Smooth weighted round robin (as nginx does it): each gains its weight, the richest is chosen and
 * pays all that was gained. Of any row of choices each gets its share, and nobody gets his in a row.
 * Null when there is nothing to choose from.
 */
export function chooseByWeight<T extends { readonly name: string; readonly weight: number }>(
  clusters: readonly T[],
  credits: Credits,
): { readonly cluster: T; readonly credits: Credits } | null {
  const after = new Map(credits);
  let richest: T | null = null;
  let gained = 0;
  for (const cluster of clusters) {
    if (cluster.weight <= 0) continue;
    const credit = (after.get(cluster.name) ?? 0) + cluster.weight;
    after.set(cluster.name, credit);
    gained += cluster.weight;
    if (richest === null || credit > (after.get(richest.name) ?? 0)) richest = cluster;
  }
  if (richest === null) return null;
  after.set(richest.name, (after.get(richest.name) ?? 0) - gained);
  return { cluster: richest, credits: after };
}
