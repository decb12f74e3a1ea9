import type { Step } from '../step.ts';

/** Done by the transaction that accepted a change of a tenant that exists (`lifecycle.ts`). */
export const acceptance: Step = { name: 'reserve' };
