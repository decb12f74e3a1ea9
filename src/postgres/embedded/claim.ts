/**
 * One gateway per DATA_DIR: whoever stops the server must be the only one that uses it. The claim is
 * an advisory lock in the server itself, which lets go of it when the gateway dies, however it dies.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { newClient } from './session.ts';

export interface Claim {
  /** False when another gateway has claimed the server since (our connection broke). */
  isOurs(): Promise<boolean>;
  /** Lets go. To be called after the server was stopped, or another gateway would come in between. */
  release(): Promise<void>;
}

/** A killed gateway's session may outlive it by a moment. */
const patienceMs = 3_000;

// Two-part keys, out of the way of single-number advisory locks in the same database.
const lockQuery = 'select pg_try_advisory_lock(7310, 1) as locked';

// The holder's process id is in the name of its session, for the message of who comes second.
const sessionName = 'tenantry gateway, process ';
const holderQuery = `select substring(application_name from '^${sessionName}(\\d+)$')::int as pid
  from pg_stat_activity join pg_locks using (pid)
  where locktype = 'advisory' and classid = 7310 and objid = 1 and granted`;

/** Another gateway holds the server; `holder` is its process id, null when it let go just now. */
export interface Taken {
  readonly holder: number | null;
}

/**
 * Claims the server behind the connection string. `gone`: the server went away. The claim does not
 * keep this process alive.
 */
export async function claimServer(url: string): Promise<Claim | Taken | 'gone'> {
  const session = await lock(url, patienceMs);
  return session instanceof pg.Client ? hold(url, session) : session;
}

async function lock(url: string, waitMs: number): Promise<pg.Client | Taken | 'gone'> {
  const client = newClient(url, `${sessionName}${process.pid}`);
  const deadline = Date.now() + waitMs;
  let taken: Taken | 'gone';
  try {
    await client.connect();
    for (;;) {
      const { rows } = await client.query<{ locked: boolean }>(lockQuery);
      if (rows[0]?.locked === true) return client;
      if (Date.now() >= deadline) break;
      await sleep(100);
    }
    const { rows } = await client.query<{ pid: number | null }>(holderQuery);
    taken = { holder: rows[0]?.pid ?? null };
  } catch {
    taken = 'gone';
  }
  await client.end().catch(() => undefined);
  return taken;
}

function hold(url: string, first: pg.Client): Claim {
  let session: pg.Client | null = null;
  let released = false;

  const keep = (client: pg.Client): void => {
    session = client;
    // Has the methods; its types do not say so.
    (client as pg.Client & { unref(): void }).unref();
    client.once('end', () => {
      session = null;
      if (!released) void retake();
    });
  };

  // PostgreSQL ends all sessions when one process of it crashes, and goes on: so must the claim.
  const retake = async (): Promise<void> => {
    while (!released && session === null) {
      await sleep(500, undefined, { ref: false });
      await tryOnce();
    }
  };

  // One attempt at a time: a second one would find the lock taken by the first.
  let attempt: Promise<'ours' | 'taken' | 'gone'> | null = null;
  const tryOnce = async (): Promise<'ours' | 'taken' | 'gone'> => {
    if (session !== null) return 'ours';
    attempt ??= lock(url, 0)
      .then(async (again) => {
        if (again === 'gone') return again;
        if (!(again instanceof pg.Client)) return 'taken' as const;
        if (released) await again.end();
        else keep(again);
        return 'ours' as const;
      })
      .finally(() => {
        attempt = null;
      });
    return attempt;
  };

  keep(first);
  return {
    isOurs: async () => (await tryOnce()) !== 'taken',
    release: async () => {
      released = true;
      await session?.end();
    },
  };
}
