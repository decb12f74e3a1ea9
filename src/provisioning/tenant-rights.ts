import DataLoader from 'dataloader';
import { reportRights, type RightsQuestion, type RightsReport } from '../postgres/access.ts';
import type { Cluster } from '../postgres/cluster.ts';
import type { ClusterWatch } from './cluster-watch.ts';
import type { Neighbours } from './neighbours.ts';

/** What servers say of the rights of tenants' roles. */
export interface TenantRights {
  /**
   * Asks for what is no matter of one database's content, beside the neighbours' databases. Questions
   * that come together are one query: the items of a batch come to it at once.
   *
   * @throws Error when the login or the database is not there
   */
  report(cluster: Cluster, question: RightsQuestion): Promise<RightsReport>;
}

/** Builds what an instance asks with. */
export function createTenantRights(
  watch: Pick<ClusterWatch, 'closedDatabases'>,
  neighbours: Pick<Neighbours, 'databases'>,
): TenantRights {
  const loaders = new WeakMap<Cluster, DataLoader<RightsQuestion, RightsReport>>();

  async function ask(
    cluster: Cluster,
    questions: readonly RightsQuestion[],
  ): Promise<(RightsReport | Error)[]> {
    const databases = await neighbours.databases(cluster, await watch.closedDatabases(cluster));
    const reports = await cluster.admin((client) => reportRights(client, questions, databases));
    return reports.map((report) => report ?? new Error('there is no such login role or database'));
  }

  return {
    report(cluster, question) {
      let loader = loaders.get(cluster);
      if (loader === undefined) {
        loader = new DataLoader((questions) => ask(cluster, questions), { cache: false });
        loaders.set(cluster, loader);
      }
      return loader.load(question);
    },
  };
}
