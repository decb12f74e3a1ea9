import type { Knex } from 'knex';
import type { Logger } from 'pino';
import { usableApiKeyIds } from '../control/api-keys.ts';
import { Refusal } from '../errors.ts';
import type { Caller, Credential } from '../provisioning/caller.ts';

/** Watches over what callers of long streams proved themselves with: it may stop holding meanwhile. */
export interface AccessWatch {
  /**
   * Asks once, now.
   *
   * @throws Refusal UNAUTHENTICATED when it holds no more
   */
  check(caller: Caller): Promise<void>;
  /** Tells, once and within a second or so, when it holds no more. Returns what stops watching. */
  watch(caller: Caller, ended: (refusal: Refusal) => void): () => void;
  /** Watches nothing any more. */
  close(): void;
}

const intervalMs = 1000;

interface Watched {
  readonly credential: Credential;
  readonly ended: (refusal: Refusal) => void;
}

/**
 * Builds the watch of an instance. It looks at all of its streams with one query a second, while there
 * are any with API keys: what another instance revokes has its effect here too, whoever is lost between.
 */
export function createAccessWatch(options: {
  readonly control: Knex;
  readonly log: Logger;
}): AccessWatch {
  const { control, log } = options;
  const watched = new Set<Watched>();
  let timer: NodeJS.Timeout | null = null;
  let looking = false;

  async function look(): Promise<void> {
    const keyIds = [...watched].flatMap(({ credential }) =>
      credential.kind === 'apiKey' ? [credential.id] : [],
    );
    const usable = new Set(
      keyIds.length === 0 ? [] : await usableApiKeyIds(control, [...new Set(keyIds)]),
    );
    for (const one of [...watched]) {
      const refusal = refusalOf(one.credential, usable, keyIds);
      if (refusal === null || !watched.delete(one)) continue;
      one.ended(refusal);
    }
    stopWhenIdle();
  }

  function tick(): void {
    if (looking) return;
    looking = true;
    look()
      .catch((error: unknown) => {
        // Asked again in a moment. An outage of the registry is no reason to end everybody's streams.
        log.warn({ err: error }, 'whether API keys still hold cannot be read');
      })
      .finally(() => {
        looking = false;
      });
  }

  function stopWhenIdle(): void {
    if (watched.size > 0 || timer === null) return;
    clearInterval(timer);
    timer = null;
  }

  return {
    async check({ credential }) {
      const ids = credential.kind === 'apiKey' ? [credential.id] : [];
      const usable = new Set(ids.length === 0 ? [] : await usableApiKeyIds(control, ids));
      const refusal = refusalOf(credential, usable, ids);
      if (refusal !== null) throw refusal;
    },

    watch({ credential }, ended) {
      if (credential.kind === 'none') return () => undefined;
      const one = { credential, ended };
      watched.add(one);
      timer ??= setInterval(tick, intervalMs);
      return () => {
        watched.delete(one);
        stopWhenIdle();
      };
    },

    close() {
      watched.clear();
      stopWhenIdle();
    },
  };
}

/** @param asked the keys that were looked up: one that joined meanwhile is left to the next look */
function refusalOf(
  credential: Credential,
  usable: ReadonlySet<string>,
  asked: readonly string[],
): Refusal | null {
  switch (credential.kind) {
    case 'none':
      return null;
    case 'token':
      return credential.expiresAt.getTime() > Date.now()
        ? null
        : new Refusal('UNAUTHENTICATED', 'The token has expired');
    case 'apiKey':
      return usable.has(credential.id) || !asked.includes(credential.id)
        ? null
        : new Refusal('UNAUTHENTICATED', 'The API key is not valid any more');
    default:
      return credential satisfies never;
  }
}
