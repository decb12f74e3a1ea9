import { findIdempotencyRecord } from '../control/idempotency.ts';
import type { Failure } from '../errors.ts';
import { brokenConstraint } from '../postgres/error-codes.ts';
import {
  schemaNameFromSlug,
  slugFromName,
  slugMaxLength,
  slugMaxLengthBehind,
  withRandomEnding,
} from './names.ts';
import type { CreateTenantCommand } from './commands.ts';
import { ClusterFull, recordTenant, Refused } from './record-tenant.ts';
import type { Reservation, Reserved, ReserveServices } from './reservation.ts';
import type { RunFindings } from './step.ts';
import { taken } from './taken.ts';

export type ReserveOutcome =
  | { readonly reserved: Reserved }
  | { readonly failures: readonly Failure[] }
  /** The same idempotency key was recorded by another request meanwhile. */
  | { readonly replay: true }
  /** The cluster has no room: nothing was recorded, another one may have. */
  | { readonly full: true };

// A derived slug is looked up first and gets a random ending when taken; more than a few races for
// one of these are no accident.
const derivedSlugTries = 5;

/**
 * Records a new tenant, its database's names, its operation and its job in ONE transaction. Unique
 * constraints decide races: the loser gets TAKEN, and nothing is left of it.
 */
export async function reserveTenant(
  services: ReserveServices,
  reservation: Reservation,
): Promise<ReserveOutcome> {
  const { name, slug: given } = reservation.command;
  const { schemaPrefix } = services.settings;
  const { generatesSchema, room } = slugRoom(reservation.command, schemaPrefix);
  const retried = generatesSchema
    ? ['tenants_slug_taken', 'tenant_databases_schema_taken']
    : ['tenants_slug_taken'];
  for (let attempt = 1; ; attempt += 1) {
    const derived = given ?? slugFromName(name, room);
    const slug = given ?? (attempt === 1 ? derived : withRandomEnding(derived, room));
    const findings: RunFindings = {};
    try {
      await services.failpoints.reach('reserve:before');
      const reserved = await services.control.transaction(async (trx) => {
        const record = { reservation, slug, slugRoom: room, findings };
        const recorded = await recordTenant(trx, services, record);
        await services.failpoints.reach('reserve:inside');
        return recorded;
      });
      await services.failpoints.reach('reserve:after');
      if (findings.prepared === true) services.standbys.claimed(reservation.cluster.name);
      return { reserved };
    } catch (error) {
      findings.login?.discard();
      if (error instanceof ClusterFull) {
        return refusedOrReplayed(services, reservation, { full: true });
      }
      if (error instanceof Refused) {
        return refusedOrReplayed(services, reservation, { failures: error.failures });
      }
      const constraint = brokenConstraint(error);
      if (constraint === 'idempotency_records_pkey') return { replay: true };
      if (
        constraint !== undefined &&
        retried.includes(constraint) &&
        given === undefined &&
        attempt < derivedSlugTries
      ) {
        continue;
      }
      const problem =
        constraint === undefined ? undefined : takenBy(constraint, slug, reservation, schemaPrefix);
      if (problem === undefined) throw error;
      return refusedOrReplayed(services, reservation, { failures: [problem] });
    }
  }
}

/** How long a derived slug may be, so that it fits into all names that are made from it. */
export function slugRoom(
  { isolation, schemaName }: Pick<CreateTenantCommand, 'isolation' | 'schemaName'>,
  schemaPrefix: string,
): { readonly generatesSchema: boolean; readonly room: number } {
  const generatesSchema = isolation === 'SCHEMA' && schemaName === undefined;
  return {
    generatesSchema,
    room: generatesSchema ? slugMaxLengthBehind(schemaPrefix) : slugMaxLength,
  };
}

/** What is taken may have been taken by this very request, sent twice at once: then it is a replay. */
async function refusedOrReplayed(
  { control }: ReserveServices,
  { idempotency }: Reservation,
  refusal: ReserveOutcome,
): Promise<ReserveOutcome> {
  if (idempotency === null) return refusal;
  const recorded = await findIdempotencyRecord(control, idempotency.key);
  return recorded === null ? refusal : { replay: true };
}

/** What a broken constraint means to the caller; undefined: nothing he can do something about. */
function takenBy(
  constraint: string,
  slug: string,
  { command }: Reservation,
  schemaPrefix: string,
): Failure | undefined {
  switch (constraint) {
    case 'tenants_slug_taken':
    case 'tenant_databases_name_taken':
      return taken.slug(slug);
    case 'tenants_domain_taken':
      return taken.domain(command.domain ?? '');
    case 'tenant_databases_schema_taken':
      return taken.schemaName(command.schemaName ?? schemaNameFromSlug(schemaPrefix, slug));
    default:
      return undefined;
  }
}
