import { z } from 'zod';

/** A UUID in an answer. Rules of what comes in are stricter; this one only tells the form. */
export function uuid(description: string) {
  return z.string().meta({ format: 'uuid', description });
}

/** The same, where it may be missing. */
export function uuidOrNull(description: string) {
  return z.string().nullable().meta({ format: 'uuid', description });
}

/** A moment in an answer: RFC 3339 in UTC, with milliseconds. */
export function time(description: string) {
  return z.string().meta({ format: 'date-time', description });
}

/** The same, where it may not have come yet. */
export function timeOrNull(description: string) {
  return z.string().nullable().meta({ format: 'date-time', description });
}

/** Words of the registry as REST writes them. */
export function lowerCase(words: readonly string[]): string[] {
  return words.map((word) => word.toLowerCase());
}
