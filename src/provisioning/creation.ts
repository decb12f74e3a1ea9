import type { RateLimit } from '../control/rate-limits.ts';
import { failure, Refusal, type Failure } from '../errors.ts';
import { identityOf, type Caller } from './caller.ts';
import { platformPartner } from './partner-names.ts';
import {
  createTenantSchema,
  parseCommand,
  type CommandRules,
  type CreateTenantInput,
} from './commands.ts';
import { idempotencyOf } from './idempotency.ts';
import type { Outcomes } from './outcomes.ts';
import type { Placement } from './placement.ts';
import { refused, type Request, type TenantOutcome } from './request.ts';
import type { ReserveServices } from './reservation.ts';
import { roleNameProblem, type RoleNames } from './role-names.ts';
import { reserveTenant, type ReserveOutcome } from './reserve.ts';

export interface CreateTenantOptions extends CreateTenantInput {
  readonly idempotencyKey?: string | null | undefined;
  /** Default true: resolve when the operation has ended. */
  readonly wait?: boolean | null | undefined;
}

export interface CreationOptions {
  readonly roleNames: RoleNames;
  readonly reserve: ReserveServices;
  readonly outcomes: Outcomes;
  readonly placement: Placement;
  readonly rules: CommandRules;
  /** Null: off. */
  readonly creationLimit: RateLimit | null;
}

/**
 * Creates a tenant: checks the input, records it with its operation in one transaction, and runs the
 * pipeline at once.
 *
 * @throws Refusal RATE_LIMITED
 */
export type CreateTenant = (request: Request, input: CreateTenantOptions) => Promise<TenantOutcome>;

/** Builds `createTenant`. */
export function createCreation(options: CreationOptions): CreateTenant {
  const { outcomes, placement, reserve } = options;
  const schema = createTenantSchema(options.rules);

  return async function createTenant(request, input): Promise<TenantOutcome> {
    const { idempotencyKey, wait, ...payload } = input;
    const waits = wait ?? true;
    const keyed = idempotencyOf(request, 'createTenant', idempotencyKey ?? null, payload);
    if ('failures' in keyed) return refused(...keyed.failures);
    const { idempotency } = keyed;
    if (idempotency !== null) {
      const replayed = await outcomes.replay(request, idempotency, waits);
      if (replayed !== null) return replayed; // costs the caller nothing of its limit
    }
    await countCreations(request, options.creationLimit, 1);

    const parsed = parseCommand(schema, payload, ['input']);
    const wanted = payload.cluster ?? undefined;
    let place = placement.place(wanted);
    // All problems at once, whichever rule they break.
    const failures = [
      ...('failures' in parsed ? parsed.failures : []),
      ...refuseForCaller(request.caller, payload),
      ...('failure' in place ? [place.failure] : []),
    ];
    if ('failures' in parsed || failures.length > 0) return refused(...failures);
    const { command } = parsed;
    if ('cluster' in place && command.schemaName !== undefined) {
      const { schemaName } = command;
      const names = await options.roleNames.among(place.cluster.name, [schemaName]);
      if (names.has(schemaName)) return refused(roleNameProblem(schemaName));
    }

    const full = new Set<string>();
    let outcome: ReserveOutcome;
    for (;;) {
      if ('failure' in place) return refused(place.failure);
      outcome = await reserveTenant(reserve, {
        command,
        partner: command.partner ?? request.caller.partner ?? platformPartner,
        cluster: place.cluster,
        actor: request.caller.subject,
        ipAddress: request.ipAddress,
        requestId: request.requestId,
        apiKey: request.apiKeyOnCreate,
        idempotency,
      });
      if (!('full' in outcome)) break;
      full.add(place.cluster.name);
      place = placement.place(wanted, full);
    }
    if ('failures' in outcome) return refused(...outcome.failures);
    if ('replay' in outcome) {
      const replayed =
        idempotency === null ? null : await outcomes.replay(request, idempotency, waits);
      // The other request failed and freed the key between the two looks.
      return replayed ?? createTenant(request, input);
    }
    if (outcome.reserved.operation.status === 'SCHEDULED') {
      const { operation, tenant } = outcome.reserved;
      return { tenant, operation, apiKey: null, failures: [] };
    }
    const remainingMs = reserve.settings.operationTimeoutSeconds * 1000;
    const accepted = { ...outcome.reserved, remainingMs, percent: 0 };
    return outcomes.run(accepted, waits, outcome.reserved.apiKey);
  };
}

/**
 * Counts creations against a limit of the caller.
 *
 * @throws Refusal RATE_LIMITED
 */
export async function countCreations(
  { caller, onRateLimit }: Request,
  limit: RateLimit | null,
  count: number,
): Promise<void> {
  const state = await limit?.consume(identityOf(caller), count);
  if (state === undefined) return;
  onRateLimit(state);
  if (!state.allowed) {
    const message = `More than ${state.limit} ${state.name.replace('-', ' ')} a minute`;
    throw new Refusal('RATE_LIMITED', message, state.resetSeconds);
  }
}

/** Rules that depend on who asks. */
export function refuseForCaller(
  caller: Caller,
  { partner }: Pick<CreateTenantInput, 'partner'>,
): Failure[] {
  if (partner == null || caller.partner === null || partner === caller.partner) return [];
  const message = 'partner may be named by platform administrators and the local operator only';
  return [failure('INVALID', message, ['input', 'partner'])];
}
