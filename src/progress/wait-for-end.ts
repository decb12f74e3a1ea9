import { setTimeout as sleep } from 'node:timers/promises';
import type { Knex } from 'knex';
import { findOperation } from '../control/operations.ts';

export interface WaitOptions {
  /** Milliseconds after which to stop waiting. */
  readonly timeoutMs: number;
  /** Resolves to true when this instance has ended the operation itself. */
  readonly local?: Promise<boolean>;
}

const pollMs = { first: 50, max: 1000 } as const;

/**
 * Waits for an operation to end, whichever instance works on it. Resolves in any case: what came of
 * it stands in the registry.
 *
 * @returns whether `local` said that it ended
 */
export async function waitForEnd(
  control: Knex,
  operationId: string,
  options: WaitOptions,
): Promise<boolean> {
  const giveUp = AbortSignal.timeout(Math.max(0, options.timeoutMs));
  const timedOut = new Promise<false>((resolve) => {
    giveUp.addEventListener('abort', () => {
      resolve(false);
    });
  });
  if (options.local !== undefined && (await Promise.race([options.local, timedOut]))) return true;
  for (let delay: number = pollMs.first; !giveUp.aborted; delay = Math.min(delay * 2, pollMs.max)) {
    const operation = await findOperation(control, null, operationId);
    if (operation?.finishedAt !== null) return false;
    await sleep(delay, undefined, { signal: giveUp }).catch(() => undefined);
  }
  return false;
}
