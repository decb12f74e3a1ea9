import { Refusal } from '../errors.ts';

/** Enum values with their descriptions, in the order of `values`. */
export function described<const Value extends string>(
  values: readonly Value[],
  descriptions: Readonly<Record<Value, string>>,
): Record<Value, { description: string }> {
  return Object.fromEntries(
    values.map((value) => [value, { description: descriptions[value] }]),
  ) as Record<Value, { description: string }>;
}

/** Whether PostgreSQL can hold a text: what it cannot hold, no row has. */
export function isStorable(text: string): boolean {
  return !text.includes('\0') && text.isWellFormed();
}

/**
 * Refuses a text that PostgreSQL would refuse with an error of its own.
 *
 * @throws Refusal BAD_USER_INPUT naming the argument
 */
export function refuseUnstorable(argument: string, text: string | undefined): void {
  if (text === undefined || isStorable(text)) return;
  throw new Refusal('BAD_USER_INPUT', `${argument} must be well-formed Unicode without NUL`);
}

/**
 * An input without the fields that are null: for a filter they mean the same as absent. Values of a list stay
 * once each: PostgreSQL takes 65,535 parameters of a statement.
 */
export function withoutNulls<T extends object>(
  input: T,
): { [Key in keyof T]?: Exclude<T[Key], null | undefined> } {
  return Object.fromEntries(
    Object.entries(input)
      .filter(([, value]) => value != null)
      .map(([key, value]: [string, unknown]) => [
        key,
        Array.isArray(value) ? [...new Set<unknown>(value)] : value,
      ]),
  ) as {
    [Key in keyof T]?: Exclude<T[Key], null | undefined>;
  };
}
