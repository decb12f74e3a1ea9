// Which clusters there are, from what is configured.
import type { Config } from '../config.ts';
import { openCluster, type Cluster } from '../postgres/cluster.ts';
import { bracketed, type PublicAddress } from '../postgres/connection.ts';
import type { ClusterRoom } from '../provisioning/placement.ts';

/** The clusters of an installation. `url` is a secret. */
export interface ConfiguredClusters {
  /** The setting that names them: to blame when they cannot be used. */
  readonly setting: string;
  /** Whether nothing is set: then it is the control plane's own server. */
  readonly own: boolean;
  readonly list: readonly ConfiguredCluster[];
}

interface ConfiguredCluster extends ClusterRoom {
  /** Admin connection string, a secret. */
  readonly url: string;
  readonly publicAddress: PublicAddress;
}

const asTheAdmin: PublicAddress = { host: null, port: null, sslmode: null };

/**
 * Those in CLUSTERS; the one in TENANT_DB_*, called `tenants`; or the control plane's own server,
 * called `default`.
 */
export function configuredClusters(config: Config, controlUrl: string): ConfiguredClusters {
  const { list, host, port, user, password } = config.clusters;
  if (list !== null) {
    return {
      setting: 'CLUSTERS',
      own: false,
      list: list.map(({ publicHost, publicPort, sslmode, ...cluster }) => ({
        ...cluster,
        publicAddress: { host: publicHost, port: publicPort, sslmode },
      })),
    };
  }
  const only = { weight: 1, maxTenants: null, publicAddress: asTheAdmin };
  if (host !== null) {
    const login = `${encodeURIComponent(user ?? '')}:${encodeURIComponent(password ?? '')}`;
    // Another name than `default`: tenants that are recorded there must not be looked for here.
    const url = `postgres://${login}@${bracketed(host)}:${String(port ?? 5432)}/postgres`;
    return { setting: 'TENANT_DB_HOST', own: false, list: [{ name: 'tenants', url, ...only }] };
  }
  const setting = config.database.url === null ? 'DATA_DIR' : 'DATABASE_URL';
  return { setting, own: true, list: [{ name: 'default', url: controlUrl, ...only }] };
}

/** Opens them, by name; connects on first use. */
export function openClusters(
  { database, provisioning }: Config,
  { list }: ConfiguredClusters,
): ReadonlyMap<string, Cluster> {
  return new Map(
    list.map(({ name, url, publicAddress }) => [
      name,
      openCluster({
        name,
        url,
        publicAddress,
        connectionsMax: database.clusterConnectionsMax,
        waitTimeoutMs: database.poolTimeoutMs,
        statementTimeoutMs: provisioning.operationTimeoutSeconds * 1000,
      }),
    ]),
  );
}
