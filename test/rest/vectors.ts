import { existsSync } from 'node:fs';
import { join } from 'node:path';

// Vectors that others wrote are not part of this repository: TEST_VECTORS names a folder of them.
const folder = process.env['TEST_VECTORS'];

/** Where these vectors are; null where there are none, and what needs them is skipped. */
export function findVectors(name: string): string | null {
  const found = folder === undefined ? null : join(folder, name);
  return found !== null && existsSync(found) ? found : null;
}
