import { createCreation, type CreateTenant, type CreationOptions } from './creation.ts';
import { createLifecycle, type Lifecycle, type LifecycleOptions } from './lifecycle.ts';
import { createOutcomes } from './outcomes.ts';
import type { Runner } from './runner.ts';

/** The domain's front door: what resolvers call. */
export interface ProvisioningService extends Lifecycle {
  readonly createTenant: CreateTenant;
}

export interface ProvisioningOptions extends Omit<CreationOptions, 'outcomes'> {
  readonly runner: Runner;
}

/** Builds the domain's front door. */
export function createProvisioning(options: ProvisioningOptions): ProvisioningService {
  const { control, keyRing, queue, settings } = options.reserve;
  const outcomes = createOutcomes({ control, keyRing, runner: options.runner });
  const lifecycle: LifecycleOptions = { control, queue, outcomes, ...settings };
  return {
    createTenant: createCreation({ ...options, outcomes }),
    ...createLifecycle(lifecycle),
  };
}
