import { execFile } from 'node:child_process';
import { resolve } from 'node:path';

const root = resolve(import.meta.dirname, '../..');

interface CliResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs src/cli/`command`.ts as a user would, with these variables and none of ours. */
export function runCli(
  command: string,
  env: Record<string, string> = {},
  args: readonly string[] = [],
): Promise<CliResult> {
  return runScript([`src/cli/${command}.ts`, ...args], env);
}

/** The same with any script of the project and its arguments. */
export function runScript(
  script: readonly string[],
  env: Record<string, string>,
): Promise<CliResult> {
  return new Promise((done) => {
    execFile(process.execPath, script, { cwd: root, env }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      done({ code, stdout, stderr });
    });
  });
}
