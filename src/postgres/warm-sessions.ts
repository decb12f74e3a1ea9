import type { LimitFunction } from 'p-limit';
import type pg from 'pg';

interface Session {
  readonly database: string;
  readonly client: pg.Client;
  /** Ends it, and frees its slot once the server has let go of it. */
  readonly end: () => void;
}

export interface WarmSessionsOptions {
  /** The slots that short-lived connections share with these. */
  readonly slots: LimitFunction;
  /** Opens an admin session in a database. */
  readonly connect: (database: string) => Promise<pg.Client>;
}

/** Sessions in databases that are worked in again and again: one of each stays open between uses. */
export interface WarmSessions {
  /** Runs `work` on one. After an error it is ended, and so it is when others wait for its slot. */
  use<T>(database: string, work: (client: pg.Client) => Promise<T>): Promise<T>;
  /** Ends those that nobody uses, where somebody would have to wait for a slot. */
  makeRoom(): void;
  /** Ends those that nobody uses. */
  endIdle(): void;
}

/** Builds the warm sessions of a cluster. */
export function createWarmSessions({ slots, connect }: WarmSessionsOptions): WarmSessions {
  const idle = new Map<string, Session>();

  async function open(database: string): Promise<Session> {
    const free = await occupied(slots);
    try {
      const client = await connect(database);
      let ended = false;
      const session: Session = {
        database,
        client,
        end() {
          if (ended) return;
          ended = true;
          if (idle.get(database) === session) idle.delete(database);
          void client
            .end()
            .catch(() => undefined)
            .then(free);
        },
      };
      client.on('error', session.end); // the server ended it
      client.on('end', session.end);
      return session;
    } catch (error) {
      free();
      throw error;
    }
  }

  function endIdle(): void {
    for (const session of [...idle.values()]) session.end();
  }

  return {
    async use(database, work) {
      const kept = idle.get(database);
      idle.delete(database);
      const session = kept ?? (await open(database));
      let broken = true;
      try {
        const result = await work(session.client);
        broken = false;
        return result;
      } finally {
        if (broken || slots.pendingCount > 0 || idle.has(database)) session.end();
        else idle.set(database, session);
      }
    },

    makeRoom() {
      if (slots.activeCount >= slots.concurrency) endIdle();
    },
    endIdle,
  };
}

/** Takes a slot; the function it resolves to gives it back. */
export async function occupied(slots: LimitFunction): Promise<() => void> {
  const taken = Promise.withResolvers<() => void>();
  void slots(() => {
    const held = Promise.withResolvers<undefined>();
    taken.resolve(() => {
      held.resolve(undefined);
    });
    return held.promise;
  });
  return taken.promise;
}
