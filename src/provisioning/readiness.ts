import type { Knex } from 'knex';
import { pingControl } from '../control/database.ts';
import { requireMigration } from '../control/migrate.ts';
import { countCompensating, countFailingRunning } from '../control/operations.ts';
import { sampleSealedConnection } from '../control/tenant-databases.ts';
import type { KeyRing } from '../crypto/envelope.ts';
import type { OperationQueue } from '../jobs/operation-queue.ts';
import type { ClusterState, ClusterWatch } from './cluster-watch.ts';
import { connectionStringPurpose } from './steps/encrypt-credentials.ts';

export interface ReadinessOptions {
  readonly control: Knex;
  /** The newest migration of the control plane. */
  readonly controlVersion: string | null;
  readonly queue: OperationQueue;
  readonly keyRing: KeyRing;
  readonly watch: Pick<ClusterWatch, 'states'>;
}

/** Whether requests can be served. Each check says `ok`, `degraded: …` or `failed: …`. */
export interface Readiness {
  readonly ready: boolean;
  readonly checks: Readonly<Record<string, string>>;
}

const clusterChecks: Readonly<Record<ClusterState, string>> = {
  STARTING: 'degraded: down',
  UP: 'ok',
  BUSY: 'degraded: no connection is free',
  DOWN: 'degraded: down',
};

/**
 * Checks the control plane, the queue and the keys, without which nothing works, and the clusters,
 * without one of which the others go on.
 */
export async function checkReadiness(options: ReadinessOptions): Promise<Readiness> {
  const { control, queue, keyRing } = options;
  const vital = await Promise.all([
    check('controlPlane', 'failed', () => pingControl(control)),
    check('migrations', 'failed', () => requireMigration(control, options.controlVersion)),
    check('queue', 'failed', () => queue.ping()),
    check('encryptionKey', 'failed', () => openSample(control, keyRing)),
  ]);
  const others = await Promise.all([
    check('compensation', 'degraded', () => refuseUnfinishedUndo(control)),
    check('operations', 'degraded', () => refuseFailingOperations(control)),
  ]);
  // As it was last seen, which is seconds ago at most: asking many that are down would take long.
  const clusters = Array.from(options.watch.states(), ([name, state]) => {
    return [`cluster:${name}`, clusterChecks[state]] as const;
  });
  return {
    ready: vital.every(([, result]) => result === 'ok'),
    checks: Object.fromEntries([...vital, ...others, ...clusters]),
  };
}

/**
 * Opens the sealed connection string that changed last.
 *
 * @throws EnvelopeError when the key ring does not open it
 */
async function openSample(control: Knex, keyRing: KeyRing): Promise<void> {
  const sample = await sampleSealedConnection(control);
  if (sample !== null) keyRing.open(sample.sealed, connectionStringPurpose, sample.tenantId);
}

async function refuseUnfinishedUndo(control: Knex): Promise<void> {
  const count = await countCompensating(control);
  if (count > 0) throw new Unfinished(`${count} operations are being undone`);
}

async function refuseFailingOperations(control: Knex): Promise<void> {
  const count = await countFailingRunning(control);
  if (count > 0) throw new Unfinished(`${count} operations fail, and are tried again`);
}

class Unfinished extends Error {}

async function check(
  name: string,
  otherwise: 'failed' | 'degraded',
  work: () => Promise<unknown>,
): Promise<readonly [string, string]> {
  try {
    await work();
    return [name, 'ok'];
  } catch (error) {
    // Whoever asks may be anybody: what exactly is wrong stands in the log.
    const reason = error instanceof Unfinished ? error.message : 'does not work';
    return [name, `${otherwise}: ${reason}`];
  }
}
