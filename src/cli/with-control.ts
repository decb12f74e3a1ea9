import { join } from 'node:path';
import type { Knex } from 'knex';
import { ConfigError, readConfig, type Config } from '../config.ts';
import { openControl } from '../control/database.ts';
import { createKeyRing, type KeyRing } from '../crypto/envelope.ts';
import { loadOrMakeKey } from '../crypto/key-file.ts';
import { SettingError } from '../errors.ts';
import { connectionOptions } from '../postgres/connection.ts';
import { findEmbeddedUrl } from '../postgres/embedded/url.ts';

/** A control plane that a command works on. */
export interface ControlPlane {
  readonly control: Knex;
  readonly config: Config;
  /** Connection string, a secret. */
  readonly url: string;
}

/**
 * Runs an operator's command on the control plane: that of DATABASE_URL, or of the embedded server that
 * runs. What is wrong is told in one line, and the exit code is 1 then.
 *
 * @param command its name, for the server's list of sessions
 */
export async function withControl(
  command: string,
  work: (plane: ControlPlane) => Promise<void>,
): Promise<void> {
  process.stdout.on('error', readEnough);
  try {
    const config = readConfig();
    const url = config.database.url ?? (await findEmbeddedUrl(config.database.dataDir));
    if (url === null) {
      const message = `${config.database.dataDir} holds no server: npm start first`;
      throw new SettingError('DATA_DIR', message);
    }
    const session = { applicationName: `tenantry ${command}`, statementTimeoutMs: 60_000 };
    const connection = connectionOptions(url, session);
    const control = openControl({ connection, poolMax: 2, poolTimeoutMs: 10_000 });
    try {
      await work({ control, config, url });
    } finally {
      await control.destroy();
    }
  } catch (error) {
    console.error(reasonOf(error));
    process.exitCode = 1;
  }
}

/** The keys that gateways with these settings seal and open with. */
export async function keyRingOf({ database, encryption }: Config): Promise<KeyRing> {
  const current = encryption.key ?? (await loadOrMakeKey(join(database.dataDir, 'encryption.key')));
  return createKeyRing({ current, previous: encryption.previousKeys });
}

/** Whoever reads the beginning alone, as `head` does, stops nothing; what is done is done to its end. */
function readEnough(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error;
}

/** Never the statement that failed: it may hold what nobody should read. */
function reasonOf(error: unknown): string {
  if (error instanceof ConfigError || error instanceof SettingError) return error.message;
  const code = error instanceof Error && 'code' in error ? ` (${String(error.code)})` : '';
  return `The control plane does not answer${code}`;
}
