import pg from 'pg';

/** PostgreSQL cuts identifiers at this many bytes (NAMEDATALEN - 1). */
export const maxIdentifierBytes = 63;

/**
 * Quotes a name for use as an SQL identifier; the one function every identifier goes through.
 *
 * @throws RangeError when the name is empty, has a NUL, or would be cut by PostgreSQL
 */
export function quoteIdentifier(name: string): string {
  if (name === '' || name.includes('\0') || Buffer.byteLength(name) > maxIdentifierBytes) {
    throw new RangeError('an identifier has 1 to 63 bytes and no NUL');
  }
  return pg.escapeIdentifier(name);
}

/** Quotes a text for DDL, which takes no parameters (`COMMENT`, `PASSWORD`). */
export function quoteLiteral(text: string): string {
  return pg.escapeLiteral(text);
}

/** A UUID as part of an unquoted-looking name: `-` becomes `_`. */
export function identifierFromId(prefix: string, id: string): string {
  return `${prefix}${id.replaceAll('-', '_')}`;
}
