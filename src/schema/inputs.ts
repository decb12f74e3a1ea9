/** Enum values with their descriptions, in the order of `values`. */
export function described<const Value extends string>(
  values: readonly Value[],
  descriptions: Readonly<Record<Value, string>>,
): Record<Value, { description: string }> {
  return Object.fromEntries(
    values.map((value) => [value, { description: descriptions[value] }]),
  ) as Record<Value, { description: string }>;
}

/** An input without the fields that are null: for a filter they mean the same as absent. */
export function withoutNulls<T extends object>(
  input: T,
): { [Key in keyof T]?: Exclude<T[Key], null | undefined> } {
  return Object.fromEntries(Object.entries(input).filter(([, value]) => value != null)) as {
    [Key in keyof T]?: Exclude<T[Key], null | undefined>;
  };
}
