import { createHash } from 'node:crypto';
import type { Knex } from 'knex';
import { claimStandby, claimStandbys, type Standby } from '../control/standbys.ts';
import type { IsolationKind } from '../control/tenants.ts';
import { roleLayout } from '../control/tenant-databases.ts';
import type { KeyRing } from '../crypto/envelope.ts';
import type { ConnectionAhead } from '../postgres/connection-ahead.ts';
import { isolationOf } from './isolation/index.ts';
import type { PlaceNames } from './isolation/isolation.ts';
import { operationSecretsPurpose, type OperationSecrets, type StepServices } from './step.ts';
import { logInAhead } from './tenant-login.ts';

/** How many standbys every cluster keeps ready; 0: none. */
export type StandbyCounts = Readonly<Record<IsolationKind, number>>;

/** A standby on its way to a tenant. */
export interface ClaimedStandby {
  readonly standby: Standby;
  readonly secrets: OperationSecrets;
  /** Begins the tenant's login to the place of these names, where that may be; null: not yet. */
  logIn(names: PlaceNames): ConnectionAhead | null;
}

/** Hands out what was made ahead. */
export interface StandbyClaims {
  /** Takes a ready standby in the reserving transaction. Null: none is ready. */
  claim(
    trx: Knex.Transaction,
    cluster: string,
    isolation: IsolationKind,
  ): Promise<ClaimedStandby | null>;
  /**
   * Takes ready standbys for that many tenants of a batch, as far as there are more than single
   * creates should find ready.
   */
  claimSeveral(
    trx: Knex.Transaction,
    cluster: string,
    isolation: IsolationKind,
    most: number,
  ): Promise<ClaimedStandby[]>;
  /** To be told after the commit: there is room for another one. */
  claimed(cluster: string): void;
}

/**
 * SHA-256 of all that goes into a standby: one that was made from other migrations, or whose login
 * has other limits, is brought up to date before a tenant gets it.
 */
export function recipeHash({
  settings,
  tenantMigrations,
}: Pick<StepServices, 'settings' | 'tenantMigrations'>): Buffer {
  const { extensionsSchema, tenantConnectionLimit, tenantStatementTimeoutMs } = settings;
  const parts = { extensionsSchema, tenantConnectionLimit, tenantStatementTimeoutMs, roleLayout };
  return createHash('sha256')
    .update(tenantMigrations.contentHash)
    .update(JSON.stringify(parts))
    .digest();
}

/** Of a pool of this size, how many a batch leaves for those who wait for one tenant. */
export function reserveOf(count: number): number {
  return Math.min(2, Math.ceil(count / 2));
}

/** Opens the secrets that were sealed for a standby or an operation. */
export function openSecrets(keyRing: KeyRing, sealed: string, tenantId: string): OperationSecrets {
  return JSON.parse(keyRing.open(sealed, operationSecretsPurpose, tenantId)) as OperationSecrets;
}

/** Builds what hands out the standbys; `onClaimed` makes new ones. */
export function createStandbyClaims(
  services: StepServices,
  counts: StandbyCounts,
  onClaimed: (cluster: string) => void,
): StandbyClaims {
  const recipe = recipeHash(services);

  function claimed(standby: Standby): ClaimedStandby {
    const secrets = openSecrets(services.keyRing, standby.secretsEncrypted, standby.id);
    return {
      standby,
      secrets,
      logIn(names) {
        const cluster = services.clusters.get(standby.cluster);
        if (cluster === undefined) return null;
        const before = isolationOf(standby.isolation).readyLogin(
          cluster,
          standby,
          names,
          services.settings,
        );
        if (before === null) return null;
        before.catch(() => undefined); // told to whoever uses the login
        const { operationId: id } = standby;
        return logInAhead({ cluster, database: standby, operation: { id }, secrets }, { before });
      },
    };
  }

  return {
    async claim(trx, cluster, isolation) {
      if (counts[isolation] === 0) return null;
      const standby = await claimStandby(trx, { cluster, isolation, recipeHash: recipe });
      return standby === null ? null : claimed(standby);
    },

    async claimSeveral(trx, cluster, isolation, most) {
      if (counts[isolation] === 0) return [];
      const pool = { cluster, isolation, recipeHash: recipe };
      const reserve = reserveOf(counts[isolation]);
      return (await claimStandbys(trx, pool, { most, reserve })).map(claimed);
    },

    claimed: onClaimed,
  };
}
