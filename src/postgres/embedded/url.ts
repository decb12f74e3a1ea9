import { textOf } from './files.ts';
import { passwordFileIn, portFileIn } from './home.ts';
import { superuser } from './initdb.ts';
import { serverUrl } from './session.ts';

/** Connection string of the embedded server of a DATA_DIR, running or not; null: there is none yet. */
export async function findEmbeddedUrl(dataDir: string): Promise<string | null> {
  const [port, password] = await Promise.all([
    textOf(portFileIn(dataDir)),
    textOf(passwordFileIn(dataDir)),
  ]);
  return port === null || password === null ? null : serverUrl(Number(port), password, superuser);
}
