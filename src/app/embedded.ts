// The server of a start without DATABASE_URL.
import type { Logger } from 'pino';
import type { Config } from '../config.ts';
import { startEmbedded } from '../postgres/embedded/server.ts';

/**
 * Starts the embedded server, or takes over one that was left behind; it ends with the stack.
 *
 * @returns its connection string
 */
export async function embeddedUrl(
  { database }: Config,
  { log, signal }: { readonly log: Logger; readonly signal: AbortSignal },
  stack: AsyncDisposableStack,
): Promise<string> {
  const embedded = await startEmbedded({
    dataDir: database.dataDir,
    signal,
    log: (line) => {
      log.info(line);
    },
  });
  stack.defer(() => embedded.stop());
  if (embedded.adopted) log.info('a PostgreSQL server left behind by an earlier run is used again');
  return embedded.url;
}
