import type { OperationKind } from '../../control/operations.ts';
import type { Isolation } from '../isolation/isolation.ts';
import type { Step } from '../step.ts';
import { acceptance } from './acceptance.ts';
import { activate } from './activate.ts';
import { createPlace } from './create-place.ts';
import { createRole } from './create-role.ts';
import { disableLogin } from './disable-login.ts';
import { encryptCredentials } from './encrypt-credentials.ts';
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

/** Soft delete. */
const deletePipeline: readonly Step[] = [acceptance, disableLogin, markDeleted];

/** The pipelines there are, by what they are for. */
export const pipelines: Partial<
  Readonly<Record<OperationKind, (isolation: Isolation) => readonly Step[]>>
> = {
  CREATE: createPipeline,
  DELETE: () => deletePipeline,
};

/** The steps of an operation, in order. */
export function pipelineOf(kind: OperationKind, isolation: Isolation): readonly Step[] {
  const pipeline = pipelines[kind];
  if (pipeline === undefined) throw new Error(`there is no pipeline for ${kind} yet`);
  return pipeline(isolation);
}
