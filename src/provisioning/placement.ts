import { failure, type Failure } from '../errors.ts';

/** The clusters that may take tenants, in the order of preference. */
export interface Placement {
  readonly clusters: readonly string[];
}

/** Chooses the cluster of a new tenant: the one that the caller named, or the first. */
export function placeTenant(
  placement: Placement,
  wanted: string | undefined,
): { readonly name: string } | { readonly failure: Failure } {
  const name = wanted ?? placement.clusters[0];
  if (name === undefined)
    return { failure: failure('UNAVAILABLE', 'No cluster takes new tenants') };
  if (placement.clusters.includes(name)) return { name };
  const known = placement.clusters.join(', ');
  return { failure: failure('INVALID', `cluster must be one of: ${known}`, ['input', 'cluster']) };
}
