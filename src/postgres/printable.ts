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
