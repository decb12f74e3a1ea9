import pino, { type Logger } from 'pino';
import { printable } from '../postgres/printable.ts';

/** Characters of a text in a log line: much of what is logged has the length that a client gives it. */
const maxText = 1_000;
/** Characters of a stack trace. */
const maxStack = 8_000;
/** Fields of an object, and entries of a list. */
const maxEntries = 50;
const maxDepth = 5;

/**
 * Derives a logger that cuts whatever is long, so that no client can fill the log with a few requests, and
 * writes out what would move the cursor of a terminal: what a tenant's database says is in it as well.
 */
export function boundLog(log: Logger): Logger {
  return log.child(
    {},
    {
      formatters: { log: (fields) => boundFields(fields, 0) },
      serializers: { err: (error: Error) => bound(pino.stdSerializers.err(error), 0) as object },
    },
  );
}

function boundFields(fields: object, depth: number): Record<string, unknown> {
  const entries = Object.entries(fields).slice(0, maxEntries);
  return Object.fromEntries(
    entries.map(([name, value]: [string, unknown]) => [
      cut(name, maxText),
      name === 'stack' && typeof value === 'string'
        ? cut(value, maxStack, printableLines)
        : bound(value, depth + 1),
    ]),
  );
}

function bound(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return cut(value, maxText);
  // An error is read by its serializer; a date is short.
  if (typeof value !== 'object' || value === null || value instanceof Date) return value;
  if (value instanceof Error && depth <= 1) return value;
  if (depth > maxDepth) return '…';
  if (Array.isArray(value))
    return value.slice(0, maxEntries).map((entry) => bound(entry, depth + 1));
  return boundFields(value, depth);
}

/** Tells how long a text was, so that nobody takes what is left for all of it. */
function cut(text: string, most: number, show = printable): string {
  const shown = show(text.slice(0, most));
  return text.length <= most ? shown : `${shown}… (${text.length} characters)`;
}

function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n');
}
