import type { Knex } from 'knex';
import {
  countSealed,
  listSealedOtherwise,
  replaceSealed,
  type SealedColumn,
} from '../control/sealed-values.ts';
import { EnvelopeError, type KeyRing } from '../crypto/envelope.ts';
import { sealedColumns } from './sealed-columns.ts';

/** What a rotation did with one column. */
export interface ColumnRotation {
  /** Such as `tenant_databases.connection_string_encrypted`. */
  readonly name: string;
  readonly resealed: number;
  /** Values that no key of the ring opens. They stay as they are. */
  readonly unopened: number;
  /** How many are sealed under each key afterwards; the empty key: the older form, which names none. */
  readonly byKey: ReadonlyMap<string, number>;
}

const batchSize = 500;

/**
 * Seals everything anew that is not sealed under the current key. Gateways may run: a value that
 * somebody changes meanwhile is left alone and looked at again. What was killed half-way goes on from
 * where it was, since what is left is what is not under the current key.
 */
export async function rotateSealedValues(
  control: Knex,
  keyRing: KeyRing,
): Promise<readonly ColumnRotation[]> {
  const rotations: ColumnRotation[] = [];
  for (const column of sealedColumns) rotations.push(await rotateColumn(control, keyRing, column));
  return rotations;
}

async function rotateColumn(
  control: Knex,
  keyRing: KeyRing,
  column: SealedColumn & { readonly purpose: string },
): Promise<ColumnRotation> {
  const currentPrefix = `v1.${keyRing.currentKeyId}.`;
  let resealed = 0;
  let unopened = 0;
  // Until a whole pass found nobody faster.
  for (let missed = 1; missed > 0;) {
    missed = 0;
    unopened = 0;
    let after: readonly string[] | null = null;
    for (;;) {
      const values = await listSealedOtherwise(control, column, currentPrefix, after, batchSize);
      for (const value of values) {
        const plaintext = openOrNull(keyRing, value, column.purpose);
        if (plaintext === null) unopened += 1;
        else {
          const anew = keyRing.seal(plaintext, column.purpose, value.boundTo);
          if (await replaceSealed(control, column, value, anew)) resealed += 1;
          else missed += 1;
        }
      }
      after = values.at(-1)?.key ?? null;
      if (values.length < batchSize) break;
    }
  }
  const byKey = await countSealed(control, column);
  return { name: `${column.table}.${column.column}`, resealed, unopened, byKey };
}

function openOrNull(
  keyRing: KeyRing,
  { sealed, boundTo }: { readonly sealed: string; readonly boundTo: string },
  purpose: string,
): string | null {
  try {
    return keyRing.open(sealed, purpose, boundTo);
  } catch (error) {
    if (error instanceof EnvelopeError) return null;
    throw error;
  }
}
