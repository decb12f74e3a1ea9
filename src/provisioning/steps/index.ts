import type { OperationKind } from '../../control/operations.ts';
import type { Isolation } from '../isolation/isolation.ts';
import type { Pipeline, Step } from '../step.ts';
import { acceptance } from './acceptance.ts';
import { activate } from './activate.ts';
import { createPlace } from './create-place.ts';
import { createRole } from './create-role.ts';
import { disableLogin } from './disable-login.ts';
import { encryptCredentials } from './encrypt-credentials.ts';
import { endTenantSessions } from './end-sessions.ts';
import { markDeleted } from './mark-deleted.ts';
import { reserve } from './reserve.ts';
import { runMigrations } from './run-migrations.ts';
import { verifyConnection } from './verify-connection.ts';

/** The whole input is checked before anything is recorded: nothing to run later, nothing to undo. */
const validate: Step = { name: 'validate' };

/** The create pipeline, in order. */
export function createPipeline(isolation: Isolation): readonly Step[] {
  return [
    validate,
    reserve,
    createRole,
    createPlace(isolation),
    runMigrations(isolation),
    verifyConnection,
    encryptCredentials,
    activate,
  ];
}

/** Soft delete: first the door, then the record, then those that are inside. */
const deletePipeline: readonly Step[] = [acceptance, disableLogin, markDeleted, endTenantSessions];

/** The kinds whose undo would let a tenant in again, or out of what was decided. */
const forwardOnlyKinds: ReadonlySet<OperationKind> = new Set<OperationKind>([
  'SUSPEND',
  'RESUME',
  'DELETE',
  'RESTORE',
  'PURGE',
]);

/** The steps of the kinds there are. */
export const pipelines: Partial<
  Readonly<Record<OperationKind, (isolation: Isolation) => readonly Step[]>>
> = {
  CREATE: createPipeline,
  DELETE: () => deletePipeline,
};

/** Whether an operation of this kind is never undone, and has no deadline: see `Pipeline`. */
export function isForwardOnly(kind: OperationKind): boolean {
  return forwardOnlyKinds.has(kind);
}

/** What an operation runs. */
export function pipelineOf(kind: OperationKind, isolation: Isolation): Pipeline {
  const steps = pipelines[kind];
  if (steps === undefined) throw new Error(`there is no pipeline for ${kind} yet`);
  return { steps: steps(isolation), forwardOnly: isForwardOnly(kind) };
}
