import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A folder of tenant migrations that a test writes itself. */
export interface MigrationFolder {
  readonly path: string;
  /** Writes `<name>.mjs`, whose `up` runs this SQL. */
  write(name: string, sql: string): Promise<void>;
  /** Writes a file as it is. */
  writeText(file: string, text: string): Promise<void>;
  remove(): Promise<void>;
}

/** The tables that every tenant database has to have. */
export const requiredTables = 'CREATE TABLE settings (); CREATE TABLE activity_log ()';

export async function makeMigrationFolder(): Promise<MigrationFolder> {
  const path = await mkdtemp(join(tmpdir(), 'tenantry-migrations-'));
  const writeText = (file: string, text: string) => writeFile(join(path, file), text);
  return {
    path,
    writeText,
    write: (name, sql) =>
      writeText(`${name}.mjs`, `export const up = (knex) => knex.raw(${JSON.stringify(sql)});\n`),
    remove: () => rm(path, { recursive: true, force: true }),
  };
}
