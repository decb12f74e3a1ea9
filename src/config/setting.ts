import type { z } from 'zod';

/** What some defaults depend on. */
export interface Start {
  readonly embedded: boolean;
  readonly isTerminal: boolean;
}

/** One environment variable: its name, rule, default, and how it is shown. */
export interface Setting<T = unknown> {
  readonly name: string;
  readonly schema: z.ZodType<T, string>;
  /** The default, as one would write it; null: none. */
  readonly fallback: (start: Start) => string | null;
  /** The value when there is neither text nor default. */
  readonly unset: T | undefined;
  readonly show: (text: string) => string;
}

/** A setting with a default; `fallback` is written as one would write the variable. */
export function setting<T>(
  name: string,
  schema: z.ZodType<T, string>,
  fallback: string | ((start: Start) => string),
  show: Setting['show'] = (text) => text.replaceAll(/\s+/g, ' '),
): Setting<T> {
  const fallbackOf = typeof fallback === 'string' ? () => fallback : fallback;
  return { name, schema, fallback: fallbackOf, unset: undefined, show };
}

/** A setting that may be absent: then it is null. */
export function optional<T>(
  name: string,
  schema: z.ZodType<T, string>,
  show?: Setting['show'],
): Setting<T | null> {
  return { ...setting<T | null>(name, schema, '', show), fallback: () => null, unset: null };
}

/** A list that may be absent: then it is empty. */
export function optionalList<T>(
  name: string,
  schema: z.ZodType<readonly T[], string>,
  show?: Setting['show'],
): Setting<readonly T[]> {
  return { ...setting(name, schema, '', show), fallback: () => null, unset: [] };
}
