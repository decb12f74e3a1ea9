import type { Scope } from '../control/tenants.ts';

/** What a caller may be allowed; roles and API keys are bundles of these. */
export const permissions = [
  'tenant:create',
  'tenant:read',
  'tenant:update',
  'tenant:delete',
  'tenant:purge',
  'tenant:operate',
  'tenant:connect',
  'fleet:read',
  'fleet:operate',
] as const;
export type Permission = (typeof permissions)[number];

/** Whether a text is the name of a permission. */
export function isPermission(text: string): text is Permission {
  return (permissions as readonly string[]).includes(text);
}

export const callerKinds = ['OPERATOR', 'USER', 'TENANT'] as const;
export type CallerKind = (typeof callerKinds)[number];

/** Who makes a request, as far as the domain cares. How one is recognised is the door's business. */
export interface Caller {
  readonly kind: CallerKind;
  /** Stable name of the caller within its kind; audit rows and limits are kept by it. */
  readonly subject: string;
  /** Whose tenants it makes; null: nobody's in particular. */
  readonly partner: string | null;
  /** Which rows it sees; null: all. */
  readonly scope: Scope;
  readonly roles: readonly string[];
  readonly permissions: ReadonlySet<Permission>;
  /** What it proved itself with, so that a stream ends when that no longer holds. */
  readonly credential: Credential;
}

export type Credential =
  /** None was asked for. */
  | { readonly kind: 'none' }
  | { readonly kind: 'token'; readonly expiresAt: Date }
  | { readonly kind: 'apiKey'; readonly id: string };

/** Which rows a caller may see. */
export function scopeOf(caller: Caller): Scope {
  return caller.scope;
}

/** Whose tenants' health a caller may know: those it sees, or (null, `fleet:read`) everybody's. */
export function healthScopeOf(caller: Caller): Scope {
  return caller.permissions.has('fleet:read') ? null : caller.scope;
}

/** What idempotency keys and rate limits are bound to: kind, partner and subject together. */
export function identityOf(caller: Caller): string {
  return JSON.stringify([caller.kind, caller.partner, caller.subject]);
}

/**
 * Whose rows of the audit log a caller may see: its partner's, or (null, `fleet:read`) everybody's. Undefined: none,
 * as a tenant, whose key is for its own data.
 */
export function auditScopeOf(caller: Caller): Scope | undefined {
  if (caller.kind === 'TENANT') return undefined;
  return caller.permissions.has('fleet:read') ? null : (caller.scope ?? undefined);
}
