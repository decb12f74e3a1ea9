// What has to hold before it listens, and which setting is to blame when it does not.
import { join } from 'node:path';
import type { Knex } from 'knex';
import type { Logger } from 'pino';
import type { Config } from '../config.ts';
import { listClustersInUse } from '../control/tenant-databases.ts';
import { createKeyRing, EnvelopeError, type KeyRing } from '../crypto/envelope.ts';
import { loadOrMakeKey } from '../crypto/key-file.ts';
import { SettingError } from '../errors.ts';
import type { Cluster } from '../postgres/cluster.ts';
import { MigrationError, type MigrationSet } from '../postgres/migrations.ts';
import { openSamples } from '../provisioning/sealed-columns.ts';

/**
 * Tenant databases that nothing is made in can never pass their verification.
 *
 * @throws SettingError when there is no tenant migration, and tables are required
 */
export function refuseEmptyFolder({ tenants }: Config, { files }: MigrationSet): void {
  if (files.length > 0 || tenants.requiredTenantTables.length === 0) return;
  const required = tenants.requiredTenantTables.join(', ');
  throw new SettingError(
    'TENANT_MIGRATIONS_DIR',
    `${tenants.migrationsFolder} has no migration, and REQUIRED_TENANT_TABLES asks for ${required}`,
  );
}

/** The tenant migrations cannot be used: the operator's to mend. */
export function blameMigrations(error: unknown): never {
  if (!(error instanceof MigrationError)) throw error;
  throw new SettingError('TENANT_MIGRATIONS_DIR', oneLine(error), { cause: error });
}

/** Rights that an earlier start had, a full disk, tables of a newer version: the operator's to mend. */
export function blameDatabase({ database }: Config): (error: unknown) => never {
  return (cause) => {
    const setting = database.url === null ? 'DATA_DIR' : 'DATABASE_URL';
    const message = `the control plane's tables cannot be made or brought up to date: ${oneLine(cause)}`;
    throw new SettingError(setting, message, { cause });
  };
}

function oneLine(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  // Knex writes the statement in front: nothing that an operator could use.
  return (message.split(' - ').at(-1) ?? message).trim().replaceAll(/\s+/g, ' ');
}

/**
 * The keys that seal; made once and kept in DATA_DIR where none is set.
 *
 * @throws SettingError when they do not open what is stored
 */
export async function openKeyRing(
  { database, encryption }: Config,
  control: Knex,
): Promise<KeyRing> {
  const file = join(database.dataDir, 'encryption.key');
  const current = encryption.key ?? (await loadOrMakeKey(file));
  const keyRing = createKeyRing({ current, previous: encryption.previousKeys });
  try {
    await openSamples(control, keyRing);
  } catch (error) {
    if (!(error instanceof EnvelopeError)) throw error;
    const source = encryption.key === null ? `the key in ${file}` : 'this key';
    throw new SettingError(
      'ENCRYPTION_KEY',
      `${source} does not open the connection strings that are stored; set the one they were sealed with, here or in ENCRYPTION_KEYS_PREVIOUS`,
      { cause: error },
    );
  }
  return keyRing;
}

/**
 * @throws SettingError when tenants of SCHEMA isolation would share a database with a control plane
 */
export function refuseControlAsShared({ tenants }: Config, clusters: Iterable<Cluster>): void {
  const cluster = [...clusters].find((one) => one.adminDatabase === tenants.sharedDatabase);
  if (cluster === undefined) return;
  throw new SettingError(
    'SHARED_TENANT_DATABASE',
    `"${tenants.sharedDatabase}" is the database that the admin of cluster ${cluster.name} works from, and closed to tenants; name one of its own`,
  );
}

/** Tenants of a cluster that is not configured any more are still listed; nothing can be done to them. */
export async function warnOfUnknownClusters(
  control: Knex,
  clusters: ReadonlyMap<string, unknown>,
  setting: string,
  log: Logger,
): Promise<void> {
  const unknown = (await listClustersInUse(control)).filter((name) => !clusters.has(name));
  if (unknown.length === 0) return;
  const message = `${setting}: tenants are recorded on clusters that are not configured; nothing can be changed about them`;
  log.warn({ clusters: unknown }, message);
}
