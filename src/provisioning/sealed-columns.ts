import type { Knex } from 'knex';
import { sampleSealed, type SealedColumn } from '../control/sealed-values.ts';
import type { KeyRing } from '../crypto/envelope.ts';
import { apiKeyPurpose } from './record-tenant.ts';
import { operationSecretsPurpose } from './step.ts';
import { connectionStringPurpose } from './steps/encrypt-credentials.ts';

/** Connection strings of tenants. */
const connectionStrings: SealedColumn & { readonly purpose: string } = {
  table: 'tenant_databases',
  column: 'connection_string_encrypted',
  key: { tenant_id: 'uuid' },
  boundTo: 'row.tenant_id',
  purpose: connectionStringPurpose,
};

/** Everything that is sealed, and what for: the one list that a rotation of the key goes through. */
export const sealedColumns: readonly (SealedColumn & { readonly purpose: string })[] = [
  connectionStrings,
  // Before operations: what is claimed meanwhile is found there.
  {
    table: 'standbys',
    column: 'secrets_encrypted',
    key: { id: 'uuid' },
    boundTo: 'row.id',
    purpose: operationSecretsPurpose,
  },
  {
    table: 'operations',
    column: 'secrets_encrypted',
    key: { id: 'uuid' },
    boundTo: 'row.tenant_id',
    purpose: operationSecretsPurpose,
  },
  {
    table: 'idempotency_records',
    column: 'api_key_encrypted',
    key: { caller: 'text', mutation: 'text', key: 'text' },
    boundTo:
      'SELECT coalesce(row.tenant_id, (SELECT operation.tenant_id FROM control_plane.operations operation WHERE operation.id = row.operation_id))',
    purpose: apiKeyPurpose,
  },
  {
    table: 'batch_api_keys',
    column: 'api_key_encrypted',
    key: { caller: 'text', mutation: 'text', key: 'text', tenant_id: 'uuid' },
    boundTo: 'row.tenant_id',
    purpose: apiKeyPurpose,
  },
];

/**
 * Opens one connection string for each key that they are sealed under.
 *
 * @throws EnvelopeError when the key ring lacks one of the keys
 */
export async function openSamples(control: Knex, keyRing: KeyRing): Promise<void> {
  for (const { sealed, boundTo } of await sampleSealed(control, connectionStrings)) {
    keyRing.open(sealed, connectionStrings.purpose, boundTo);
  }
}
