import type { Logger } from 'pino';
import { createApiKeys, type ApiKeys, type ApiKeysOptions } from './api-keys.ts';
import {
  createBatchCreation,
  type BatchCreationOptions,
  type CreateTenantsBatch,
} from './batch-creation.ts';
import {
  createCancellation,
  type CancellationOptions,
  type CancelOperation,
} from './cancellation.ts';
import { createCreation, type CreateTenant, type CreationOptions } from './creation.ts';
import type { RateLimit } from '../control/rate-limits.ts';
import { createLifecycle, type Lifecycle, type LifecycleOptions } from './lifecycle.ts';
import { createOutcomes } from './outcomes.ts';
import type { Precedence } from './precedence.ts';
import { createReveal, type RevealTenantConnection } from './reveal.ts';
import type { Runner } from './runner.ts';
import { createUpdate, type UpdateTenant } from './update.ts';

/** The domain's front door: what resolvers call. */
export interface ProvisioningService extends Lifecycle, ApiKeys {
  readonly createTenant: CreateTenant;
  readonly createTenantsBatch: CreateTenantsBatch;
  readonly updateTenant: UpdateTenant;
  readonly revealTenantConnection: RevealTenantConnection;
  readonly cancelOperation: CancelOperation;
}

export interface ProvisioningOptions
  extends Omit<CreationOptions, 'outcomes' | 'reserve'>, Omit<BatchCreationOptions, 'rules'> {
  readonly runner: Runner;
  readonly precedence: Precedence;
  /** How long an API key works on after its rotation, seconds. */
  readonly apiKeyOverlapSeconds: ApiKeysOptions['apiKeyOverlapSeconds'];
  /** As `creationLimit`, for tenants in batches. */
  readonly batchLimit: RateLimit | null;
  readonly hints: CancellationOptions['hints'];
  readonly log: Logger;
}

/** Builds the domain's front door. */
export function createProvisioning(options: ProvisioningOptions): ProvisioningService {
  const { control, keyRing, queue, settings } = options.reserve;
  const outcomes = createOutcomes({ control, keyRing, runner: options.runner });
  const { placement } = options;
  const lifecycle: LifecycleOptions = { control, queue, outcomes, placement, ...settings };
  const createTenant = createCreation({ ...options, outcomes });
  return {
    createTenant: (request, input) =>
      options.precedence.awaited(() => createTenant(request, input)),
    createTenantsBatch: createBatchCreation({ ...options, creationLimit: options.batchLimit }),
    updateTenant: createUpdate({ control, rules: options.rules, ...settings }),
    revealTenantConnection: createReveal({ control, keyRing, ...settings }),
    cancelOperation: createCancellation({ control, queue, ...options, ...settings }),
    ...createApiKeys({
      ...settings,
      control,
      keyRing,
      apiKeyOverlapSeconds: options.apiKeyOverlapSeconds,
    }),
    ...createLifecycle(lifecycle),
  };
}
