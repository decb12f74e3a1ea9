/**
 * Named places where a test makes the pipeline fail. `<step>:before`, `<step>:after` and
 * `<step>:compensate` are reached once for each attempt. Nothing hangs on them otherwise.
 */
export interface Failpoints {
  /** Called when the pipeline comes to `point`; a rejection is an error of the step. */
  reach(point: string): Promise<void>;
}

/** Nothing fails on purpose. */
export const noFailpoints: Failpoints = { reach: () => Promise.resolve() };
