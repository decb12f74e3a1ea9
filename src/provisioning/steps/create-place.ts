import type { Isolation } from '../isolation/isolation.ts';
import type { Step } from '../step.ts';

/** Makes the tenant's database or schema; `create_database` or `create_schema` to clients. */
export function createPlace(isolation: Isolation): Step {
  return {
    name: isolation.createStep,
    run: (context) => isolation.create(context),
    compensate: (context) => isolation.drop(context),
  };
}
