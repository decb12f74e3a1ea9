import { isDeepStrictEqual } from 'node:util';
import type { Knex } from 'knex';
import { appendAudit } from '../control/audit.ts';
import { findIdempotencyRecord, insertIdempotencyRecord } from '../control/idempotency.ts';
import { updateTenantRow, type TenantChanges } from '../control/tenant-updates.ts';
import {
  findTenant,
  lockTenant,
  lockTenantName,
  tenantNameTaken,
  type Tenant,
} from '../control/tenants.ts';
import { failure, type Failure } from '../errors.ts';
import { brokenConstraint } from '../postgres/error-codes.ts';
import { scopeOf } from './caller.ts';
import {
  parseCommand,
  updateTenantSchema,
  type CommandRules,
  type UpdateTenantCommand,
  type UpdateTenantInput,
} from './commands.ts';
import { idempotencyMismatch, idempotencyOf, type Idempotency } from './idempotency.ts';
import { looksLikeUuid } from './names.ts';
import type { Request } from './request.ts';

export interface UpdateTenantOptions extends UpdateTenantInput {
  /** The tenant's. */
  readonly id: string;
  readonly idempotencyKey?: string | null | undefined;
}

/** What came of a change that needs no operation. */
export interface UpdateOutcome {
  readonly tenant: Tenant | null;
  readonly failures: readonly Failure[];
}

/**
 * Changes what describes a tenant, its settings and its protection. What is absent stays; null clears
 * what may be empty. A change that changes nothing leaves the version as it is.
 */
export type UpdateTenant = (request: Request, input: UpdateTenantOptions) => Promise<UpdateOutcome>;

interface UpdateServices {
  readonly control: Knex;
  readonly rules: CommandRules;
  readonly idempotencyTtlHours: number;
}

/** Builds `updateTenant`. */
export function createUpdate(services: UpdateServices): UpdateTenant {
  const { control } = services;
  const schema = updateTenantSchema(services.rules);

  return async function updateTenant(request, input): Promise<UpdateOutcome> {
    const { idempotencyKey, ...payload } = input;
    const hashed = nullsTold(payload);
    const keyed = idempotencyOf(request, 'updateTenant', idempotencyKey ?? null, hashed);
    if ('failures' in keyed) return refused(...keyed.failures);
    const { idempotency } = keyed;
    const replayed = await replay(control, request, idempotency);
    if (replayed !== null) return replayed;
    const { id, ...fields } = payload;
    const parsed = parseCommand(schema, fields, ['input']);
    if ('failures' in parsed) return refused(...parsed.failures);
    if (!looksLikeUuid(id)) return refused(notFound());
    const { command } = parsed;
    try {
      return await control.transaction((trx) =>
        record(trx, services, request, id, command, idempotency),
      );
    } catch (error) {
      const constraint = brokenConstraint(error);
      if (constraint === 'tenants_domain_taken') {
        const message = `Domain already exists: ${command.domain ?? ''}`;
        return refused(failure('TAKEN', message, ['input', 'domain']));
      }
      if (constraint !== 'idempotency_records_pkey') throw error;
      // An equal request was faster: its answer is this one's too.
      return (await replay(control, request, idempotency)) ?? updateTenant(request, input);
    }
  };
}

async function replay(
  control: Knex,
  request: Request,
  idempotency: Idempotency | null,
): Promise<UpdateOutcome | null> {
  if (idempotency === null) return null;
  const found = await findIdempotencyRecord(control, idempotency.key);
  if (found === null) return null;
  if (!found.payloadHash.equals(idempotency.payloadHash)) return refused(idempotencyMismatch());
  const id = found.tenantId ?? '';
  const tenant = await findTenant(control, scopeOf(request.caller), { id });
  return tenant === null ? refused(notFound()) : { tenant, failures: [] };
}

async function record(
  trx: Knex.Transaction,
  { idempotencyTtlHours }: UpdateServices,
  request: Request,
  id: string,
  command: UpdateTenantCommand,
  idempotency: Idempotency | null,
): Promise<UpdateOutcome> {
  const tenant = await lockTenant(trx, scopeOf(request.caller), id);
  if (tenant === null) return refused(notFound());
  const changes = changesOf(tenant, command);
  const problem = await whyNot(trx, tenant, command, changes);
  // As it is: whoever was slower sees what the faster one made of it.
  if (problem !== null) {
    return { tenant: problem.code === 'NOT_FOUND' ? null : tenant, failures: [problem] };
  }

  const fields = Object.keys(changes);
  const changed = fields.length === 0 ? tenant : await updateTenantRow(trx, id, changes);
  if (idempotency !== null) {
    await insertIdempotencyRecord(trx, idempotency.key, {
      payloadHash: idempotency.payloadHash,
      operationId: null,
      tenantId: id,
      apiKeyEncrypted: null,
      ttlHours: idempotencyTtlHours,
    });
  }
  if (fields.length > 0) {
    await appendAudit(trx, {
      actor: request.caller.subject,
      partner: tenant.partner,
      ipAddress: request.ipAddress,
      action: 'updateTenant',
      tenantId: id,
      fromStatus: tenant.status,
      toStatus: tenant.status,
      outcome: 'SUCCEEDED',
      requestId: request.requestId,
      details: { fields, version: changed.version },
    });
  }
  return { tenant: changed, failures: [] };
}

async function whyNot(
  trx: Knex.Transaction,
  tenant: Tenant,
  { expectedVersion, uniqueName }: UpdateTenantCommand,
  { name }: TenantChanges,
): Promise<Failure | null> {
  if (tenant.status === 'FAILED' || tenant.status === 'PURGED') return notFound();
  if (tenant.status !== 'ACTIVE' && tenant.status !== 'SUSPENDED') {
    return failure('INVALID_STATE', `A tenant that is ${tenant.status} cannot be changed`, idPath);
  }
  if (expectedVersion !== undefined && expectedVersion !== tenant.version) {
    const message = `The tenant is at version ${tenant.version}, not ${expectedVersion}`;
    return failure('VERSION_MISMATCH', message, ['input', 'expectedVersion']);
  }
  if (uniqueName && name !== undefined) {
    await lockTenantName(trx, tenant.partner, name);
    if (await tenantNameTaken(trx, tenant.partner, name)) {
      return failure('TAKEN', `Tenant with name '${name}' already exists`, ['input', 'name']);
    }
  }
  return null;
}

/** What would be otherwise than it is. Of the settings, what is absent stays. */
function changesOf(tenant: Tenant, command: UpdateTenantCommand): TenantChanges {
  const { expectedVersion: _version, uniqueName: _unique, settings, ...fields } = command;
  const wanted: { readonly [Field in keyof TenantChanges]: TenantChanges[Field] | undefined } = {
    ...fields,
    ...(settings === undefined
      ? {}
      : {
          settings: {
            features: settings.features ?? tenant.settings.features,
            limits: {
              users: settings.limits?.users ?? tenant.settings.limits.users,
              storageGb: settings.limits?.storageGb ?? tenant.settings.limits.storageGb,
            },
          },
        }),
  };
  return Object.fromEntries(
    Object.entries(wanted).filter(
      ([field, value]) =>
        value !== undefined && !isDeepStrictEqual(value, tenant[field as keyof TenantChanges]),
    ),
  );
}

/** The hash of a payload takes absent and null for the same: here they are not. */
function nullsTold(payload: object): object {
  return Object.fromEntries(
    Object.entries(payload).map(([field, value]: [string, unknown]) => [
      field,
      value === null ? { cleared: true } : value,
    ]),
  );
}

const idPath = ['input', 'id'] as const;

function notFound(): Failure {
  return failure('NOT_FOUND', 'There is no tenant with this id', idPath);
}

function refused(...failures: readonly Failure[]): UpdateOutcome {
  return { tenant: null, failures };
}
