import { maxIdentifierBytes, quoteLiteral } from './identifiers.ts';

/**
 * Shows a text of a tenant's on a line of its own, in a terminal or a log: what would move the cursor,
 * change colours, break the line or turn the direction of writing is written as `\u{…}`.
 */
export function printable(text: string): string {
  return text.replaceAll(
    // Controls, formats (bidirectional marks, zero width), separators of lines, lone surrogates, private use.
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}]/gu,
    (character) => String.raw`\u{${character.codePointAt(0)?.toString(16) ?? ''}}`,
  );
}

/** Shows a name of a tenant's in a message: quoted, on one line, 63 bytes of it at most. */
export function printableName(name: string): string {
  const cut = Buffer.from(name)
    .subarray(0, maxIdentifierBytes)
    .toString()
    .replace(/\uFFFD+$/, '');
  return `"${printable(cut).replaceAll('"', '""')}"`;
}

// PostgreSQL's longest name of a prepared transaction, written as an SQL literal.
const literalMaxLength = 400;

/** Shows a text of a tenant's as an SQL literal on one line. */
export function printableLiteral(text: string): string {
  return printable(quoteLiteral(text)).slice(0, literalMaxLength);
}
