import { createHash } from 'node:crypto';
import type { Control } from '../control/database.ts';
import {
  findIdempotencyRecord,
  insertIdempotencyRecord,
  type IdempotencyKey,
} from '../control/idempotency.ts';
import { failure, type Failure } from '../errors.ts';
import { identityOf } from './caller.ts';
import { idempotencyKeySchema, parseCommand } from './commands.ts';
import type { Request } from './request.ts';

/** An idempotency key bound to its caller and mutation, and what it was used for. */
export interface Idempotency {
  readonly key: IdempotencyKey;
  /** SHA-256 of the payload. */
  readonly payloadHash: Buffer;
}

/**
 * The idempotency of a request, from its header or its input; null: none asked for.
 *
 * @returns failures when both differ, or the key is none
 */
export function idempotencyOf(
  request: Request,
  mutation: string,
  fromInput: string | null,
  payload: object,
): { readonly idempotency: Idempotency | null } | { readonly failures: readonly Failure[] } {
  const path = ['input', 'idempotencyKey'];
  const fromHeader = request.idempotencyKey;
  if (fromInput !== null && fromHeader !== null && fromInput !== fromHeader) {
    const message = 'idempotencyKey and the Idempotency-Key header differ';
    return { failures: [failure('INVALID', message, path)] };
  }
  const given = fromInput ?? fromHeader;
  if (given === null) return { idempotency: null };
  const parsed = parseCommand(idempotencyKeySchema, given, path);
  if ('failures' in parsed) return parsed;
  const key = { caller: identityOf(request.caller), mutation, key: parsed.command };
  return { idempotency: { key, payloadHash: hashPayload(payload) } };
}

/** The failure of a key that was used for something else. */
export function idempotencyMismatch(): Failure {
  const message = 'This idempotency key was used with another payload';
  return failure('IDEMPOTENCY_MISMATCH', message, ['input', 'idempotencyKey']);
}

/**
 * Whether a key was used for a change that needs no operation; null: it was not.
 *
 * @returns the tenant of the change, or the failure of a key that was used for something else
 */
export async function findUse(
  control: Control,
  idempotency: Idempotency | null,
): Promise<{ readonly tenantId: string } | { readonly failures: readonly Failure[] } | null> {
  if (idempotency === null) return null;
  const record = await findIdempotencyRecord(control, idempotency.key);
  if (record === null) return null;
  if (!record.payloadHash.equals(idempotency.payloadHash)) {
    return { failures: [idempotencyMismatch()] };
  }
  return { tenantId: record.tenantId ?? '' };
}

/** Records that a key was used for a change that needs no operation, in the transaction of the change. */
export async function recordUse(
  trx: Control,
  { key, payloadHash }: Idempotency,
  tenantId: string,
  ttlHours: number,
): Promise<void> {
  await insertIdempotencyRecord(trx, key, {
    payloadHash,
    operationId: null,
    tenantId,
    apiKeyEncrypted: null,
    ttlHours,
  });
}

/** SHA-256 over the payload as sent, fields in the order of their names, absent and null alike. */
function hashPayload(payload: object): Buffer {
  const canonical = JSON.stringify(payload, (_key, value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(
          Object.entries(value)
            .filter(([, inner]) => inner !== null && inner !== undefined)
            .sort(([a], [b]) => (a < b ? -1 : 1)),
        )
      : value,
  );
  return createHash('sha256').update(canonical).digest();
}
