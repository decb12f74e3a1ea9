import { execFile, spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
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

/** Starts it likewise, for tests that do something to it while it runs. */
export function startCli(
  command: string,
  env: Record<string, string>,
): ChildProcessWithoutNullStreams {
  return spawn(process.execPath, [`src/cli/${command}.ts`], { cwd: root, env });
}

/** The same as `runCli` with any script of the project and its arguments. */
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
