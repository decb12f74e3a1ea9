// What runs beside everything else.
import type { Knex } from 'knex';
import type { Logger } from 'pino';
import type { Config } from '../config.ts';
import { purgeIdempotencyRecords } from '../control/idempotency.ts';
import type { EventHints } from '../progress/event-hints.ts';
import { pruneAuditLog } from '../provisioning/audit-retention.ts';
import { createLooseEnds } from '../provisioning/loose-ends.ts';
import { createReconciler } from '../provisioning/reconciler.ts';
import type { StepServices } from '../provisioning/step.ts';

const cleaningIntervalMs = 3_600_000;
const tendingIntervalMs = 60_000;

/** What an instance does again and again, and nobody waits for. */
export function startChores(
  config: Config,
  services: StepServices & { readonly hints: EventHints },
  log: Logger,
  stack: AsyncDisposableStack,
): void {
  const { control, hints, queue } = services;
  clean(config, control, log);
  const cleaning = setInterval(clean, cleaningIntervalMs, config, control, log);
  stack.defer(() => {
    clearInterval(cleaning);
  });

  const tending = setInterval(tendTemplates, tendingIntervalMs, services, log);
  stack.defer(() => {
    clearInterval(tending);
  });
  const reconciler = createReconciler({ services, ...config.reconcile, log });
  stack.defer(() => reconciler.stop());
  reconciler.start();
  const looseEnds = createLooseEnds({
    control,
    queue,
    hints,
    log,
    leaseSeconds: config.provisioning.takeoverSeconds,
  });
  stack.defer(() => looseEnds.stop());
  looseEnds.start();
}

/** Nothing waits for it; a cluster that is down is tended when it is back. */
function tendTemplates({ clusters, templates, watch }: StepServices, log: Logger): void {
  for (const cluster of clusters.values()) {
    if (!watch.takesTenants(cluster.name)) continue;
    templates.tend(cluster).catch((error: unknown) => {
      log.warn({ err: error, cluster: cluster.name }, 'unused templates could not be dropped');
    });
  }
}

/** Removes what has lived for as long as the settings say. Nothing waits for it. */
function clean({ audit }: Config, control: Knex, log: Logger): void {
  purgeIdempotencyRecords(control).catch((error: unknown) => {
    log.warn({ err: error }, 'expired idempotency records could not be deleted');
  });
  if (audit.retentionDays === 0) return;
  pruneAuditLog(control, audit.retentionDays, 'gateway').then(
    (pruned) => {
      if (pruned !== null) return;
      const message =
        'AUDIT_RETENTION_DAYS: this role may not prune the audit log; its owner has to run: npm run prune-audit';
      log.warn(message);
    },
    (error: unknown) => {
      log.warn({ err: error }, 'the audit log could not be pruned');
    },
  );
}
