import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Knex } from 'knex';
import type pg from 'pg';
import { beginServiceUse, endServiceUse, keepServiceUse } from '../control/service-sessions.ts';
import type { Cluster } from '../postgres/cluster.ts';
import { codeOf, errorCodes, PassingError } from '../postgres/error-codes.ts';
import {
  closeServiceLogin,
  createServiceLogin,
  markerOf,
  openServiceLogin,
} from '../postgres/roles.ts';
import { terminateSessions } from '../postgres/terminate-sessions.ts';
import { backendPid } from '../postgres/session.ts';
import { generatePassword, scramVerifier } from '../postgres/scram.ts';

/** A tenant's place, as sessions of its service login come to it. */
export interface ServicePlace {
  readonly cluster: Cluster;
  readonly database: string;
  /** Schemas in which names are looked up: the place's own, then the operator's extensions. */
  readonly searchPath: readonly string[];
  /** Role that the session works as: it has no other rights than the tenant. */
  readonly owner: string;
  readonly service: string;
  /** Comment of the tenant's roles, for a service login that does not exist yet; null: as the owner has it. */
  readonly marker: string | null;
  /** Advisory lock of the tenant's roles. */
  readonly lock: string;
}

export interface ServiceOptions {
  readonly applicationName: string;
  /** Milliseconds; of one statement, on the server's side and on ours. */
  readonly statementTimeoutMs: number;
  /** Cuts the session. */
  readonly signal?: AbortSignal | undefined;
  /** How admin sessions are opened; the cluster's own way, unless the caller holds one already. */
  readonly admin?: Cluster['admin'];
}

/** An open service login, for a client that connects by itself. */
export interface ServiceLogin {
  /** Holds a password that is good for this use alone. */
  readonly config: pg.ClientConfig;
  /** To be called once it has connected: shuts the door behind it. */
  connected(client: pg.ClientBase): Promise<void>;
  /** Aborts when the use is over. */
  readonly signal: AbortSignal;
}

/** Opens sessions in tenants' places that have no more rights than the tenant. */
export interface TenantSessions {
  /**
   * Lets `work` log in once as the service login of a place. There is one use at a time for each place,
   * over all instances; others wait. Afterwards every session of the login is ended.
   */
  use<T>(
    place: ServicePlace,
    options: ServiceOptions,
    work: (login: ServiceLogin) => Promise<T>,
  ): Promise<T>;
  /**
   * Runs `work` on a connection of the service login.
   *
   * @param maxBytes of all answers; a larger one cuts the connection
   * @throws AnswerTooLargeError
   */
  query<T>(
    place: ServicePlace,
    options: ServiceOptions & { readonly maxBytes: number },
    work: (client: pg.Client) => Promise<T>,
  ): Promise<T>;
}

// Prolonged while a use lasts; once it has run out, the sessions of the login are ended by whoever
// finds them.
const leaseSeconds = 30;
const prolongEveryMs = 8_000;
// The password is random, and good for one login: more iterations would cost the server and buy nothing.
const verifierIterations = 1;
const waitMs = { first: 20, most: 500, inAll: 60_000 };

/** Builds what an instance opens sessions in tenants' places with. */
export function createTenantSessions(control: Knex): TenantSessions {
  async function use<T>(
    place: ServicePlace,
    options: ServiceOptions,
    work: (login: ServiceLogin) => Promise<T>,
  ): Promise<T> {
    const { cluster, service: role } = place;
    const admin: Cluster['admin'] = options.admin ?? ((act, until) => cluster.admin(act, until));
    const held = { cluster: cluster.name, role, holder: randomUUID() };
    const over = new AbortController();
    const signal =
      options.signal === undefined ? over.signal : AbortSignal.any([over.signal, options.signal]);
    await untilBegun(held, signal);
    const keep = (pid: number | null): Promise<void> =>
      keepServiceUse(control, held, leaseSeconds, pid).then((kept) => {
        if (!kept) over.abort(new PassingError('the use of a service login was not prolonged'));
      });
    const prolonging = setInterval(() => {
      keep(null).catch(() => undefined); // the next one
    }, prolongEveryMs);
    let open = true;
    const close = async (): Promise<void> => {
      if (open) await admin((client) => closeServiceLogin(client, role));
      open = false;
    };
    try {
      const password = generatePassword();
      const verifier = await scramVerifier(password, verifierIterations);
      await admin((client) => openLogin(client, place, verifier), signal);
      return await work({
        config: cluster.loginOptions(
          place.database,
          { user: role, password },
          {
            applicationName: options.applicationName,
            statementTimeoutMs: options.statementTimeoutMs,
            place: { searchPath: place.searchPath, role: place.owner },
          },
        ),
        async connected(client) {
          // Recorded first: once the login is closed, recovery ends each session of it that is not recorded.
          await keep(backendPid(client));
          await close();
          signal.throwIfAborted();
        },
        signal,
      });
    } finally {
      clearInterval(prolonging);
      // Where the cluster does not answer, recovery does it once the lease has run out.
      await close()
        .then(() => admin((client) => terminateSessions(client, [role])))
        .then(() => endServiceUse(control, held))
        .catch(() => undefined);
    }
  }

  async function untilBegun(
    held: Parameters<typeof beginServiceUse>[1],
    signal: AbortSignal,
  ): Promise<void> {
    const giveUpAt = Date.now() + waitMs.inAll;
    for (let pauseMs = waitMs.first; ; pauseMs = Math.min(2 * pauseMs, waitMs.most)) {
      signal.throwIfAborted();
      if (await beginServiceUse(control, held, leaseSeconds)) return;
      if (Date.now() > giveUpAt) throw new PassingError('the service login is in use elsewhere');
      await sleep(pauseMs, undefined, { signal });
    }
  }

  return {
    use,

    query(place, options, work) {
      return use(place, options, (login) =>
        place.cluster.withLogin(
          login.config,
          async (client) => {
            await login.connected(client);
            return work(client);
          },
          login.signal,
          options.maxBytes,
        ),
      );
    },
  };
}

/** Opens the login, and creates one that does not exist yet: older versions made none. */
async function openLogin(
  client: pg.ClientBase,
  place: ServicePlace,
  verifier: string,
): Promise<void> {
  try {
    await openServiceLogin(client, place, verifier);
  } catch (error) {
    if (codeOf(error) !== errorCodes.undefinedObject) throw error;
    const marker = place.marker ?? (await markerOf(client, place.owner)) ?? '';
    await createServiceLogin(client, place, { lock: place.lock, marker });
    await openServiceLogin(client, place, verifier);
  }
}
