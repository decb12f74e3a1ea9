import { failure, type Failure } from '../errors.ts';
import type { Cluster } from '../postgres/cluster.ts';
import { existingRoles } from '../postgres/roles.ts';

/** Knows which names of schemas are names of roles: `"$user"` on a search path would lead to such a schema. */
export interface RoleNames {
  /**
   * Asks a cluster which of these names are those of its roles. A cluster that does not answer is not waited
   * for: the step that creates a schema asks again.
   */
  among(cluster: string, names: readonly string[]): Promise<ReadonlySet<string>>;
}

const waitMs = 1_000;

/** Builds what an instance asks its clusters with. */
export function createRoleNames(clusters: ReadonlyMap<string, Cluster>): RoleNames {
  return {
    async among(name, names) {
      const cluster = clusters.get(name);
      if (cluster === undefined || names.length === 0) return new Set();
      const asked = cluster.admin((client) => existingRoles(client, names));
      asked.catch(() => undefined);
      const late = Promise.withResolvers<ReadonlySet<string>>();
      const timer = setTimeout(late.resolve, waitMs, new Set<string>());
      return Promise.race([asked, late.promise])
        .catch(() => new Set<string>())
        .finally(() => {
          clearTimeout(timer);
        });
    },
  };
}

/** The failure of a schema that should be called like a role. */
export function roleNameProblem(name: string): Failure {
  const message = `Invalid schema name: ${name} (is the name of a role of the cluster)`;
  return failure('INVALID', message, ['input', 'schemaName']);
}
