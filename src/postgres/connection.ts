import { isIPv6 } from 'node:net';
import type pg from 'pg';
import { parseIntoClientConfig } from 'pg-connection-string';
import { adminPlace, pinnedOptions, type SessionPlace } from './pinned-settings.ts';

export interface Login {
  readonly user: string;
  readonly password: string;
}

/** What a session is for. */
export interface SessionOptions {
  readonly applicationName: string;
  /** Milliseconds; 0: no limit. */
  readonly statementTimeoutMs: number;
  /** Milliseconds that a statement waits for one lock; default 0: no limit of its own. */
  readonly lockTimeoutMs?: number;
  /** Default: the admin's. */
  readonly place?: SessionPlace;
  /** Major version of the server, where it is known. */
  readonly version?: number;
}

/**
 * Turns a connection string into options for node-postgres, with every setting pinned that our statements
 * depend on. `sslmode` means what libpq means by it: node-postgres would verify certificates under
 * `require` too.
 *
 * @throws Error when the text is no connection string
 */
export function connectionOptions(url: string, session: SessionOptions): pg.ClientConfig {
  const { place = adminPlace, version = 0, lockTimeoutMs = 0, statementTimeoutMs } = session;
  const parsed = new URL(url);
  if (parsed.searchParams.has('sslmode')) parsed.searchParams.set('uselibpqcompat', 'true');
  return {
    ...parseIntoClientConfig(parsed.href),
    application_name: session.applicationName,
    keepAlive: true,
    connectionTimeoutMillis: 10_000,
    // Both sides know the limit: with one side alone, the server goes on after the client gave up.
    query_timeout: statementTimeoutMs === 0 ? 0 : statementTimeoutMs + 5_000,
    options: pinnedOptions(place, { version, lockTimeoutMs, statementTimeoutMs }),
  };
}

/** The same options for work that takes as long as it takes, as migrations of the control plane do. */
export function withoutTimeouts(config: pg.ClientConfig): pg.ClientConfig {
  return { ...config, query_timeout: 0, options: `${config.options ?? ''} -c statement_timeout=0` };
}

/** How tenants reach a server, where that differs from how its admin does. */
export interface PublicAddress {
  readonly host: string | null;
  readonly port: number | null;
  readonly sslmode: string | null;
}

const sameAddress: PublicAddress = { host: null, port: null, sslmode: null };

/** The connection string of a tenant's login on the server that `adminUrl` names. */
export function tenantUrl(
  adminUrl: string,
  database: string,
  login: Login,
  address: PublicAddress = sameAddress,
): string {
  const url = new URL(loginUrl(adminUrl, database, login));
  if (address.host !== null) url.hostname = bracketed(address.host);
  if (address.port !== null) url.port = String(address.port);
  const sslmode = address.sslmode ?? url.searchParams.get('sslmode');
  url.search = '';
  if (sslmode !== null) url.searchParams.set('sslmode', sslmode);
  return url.href;
}

/** The admin's URL with another login and database; all else, its TLS settings too, is as the admin has it. */
export function loginUrl(adminUrl: string, database: string, login: Login): string {
  const url = new URL(adminUrl);
  url.username = encodeURIComponent(login.user);
  url.password = encodeURIComponent(login.password);
  url.pathname = `/${encodeURIComponent(database)}`;
  for (const name of ['user', 'password', 'dbname']) url.searchParams.delete(name);
  return url.href;
}

/** A host as a URL has it: an IPv6 address stands in brackets. */
export function bracketed(host: string): string {
  return isIPv6(host) ? `[${host}]` : host;
}

/** Cuts a connection at once, whatever is under way on it; the server ends its statement soon after. */
export function cutConnection(client: pg.ClientBase): void {
  const { connection } = client as unknown as { connection: { stream: { destroy(): void } } };
  connection.stream.destroy();
}
