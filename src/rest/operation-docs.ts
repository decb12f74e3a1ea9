import { z } from 'zod';
import { stepStatuses } from '../control/events.ts';
import { operationKinds, operationStatuses, type OperationKind } from '../control/operations.ts';
import { failureCodes } from '../errors.ts';
import { lowerCase, time, timeOrNull, uuid, uuidOrNull } from './body-schemas.ts';
import type { ReplyDocs } from './docs.ts';

const step = z
  .object({
    name: z.string().meta({ description: 'Such as `create_database`.' }),
    status: z.enum(lowerCase(stepStatuses)).meta({ description: 'How far it is.' }),
    attempts: z.int().min(1).meta({ description: 'How often it was tried.' }),
    started_at: timeOrNull('When it began.'),
    finished_at: timeOrNull('When it ended.'),
    duration_ms: z.int().nullable().meta({ minimum: 0, description: 'Milliseconds it took.' }),
  })
  .meta({ id: 'OperationStep', description: 'One step of an operation.' });

/** What `operationBody` (operations.ts) makes. */
export const operationSchema = z
  .object({
    id: uuid('The operation.'),
    kind: z.enum(lowerCase(operationKinds)).meta({ description: 'What it does.' }),
    status: z.enum(lowerCase(operationStatuses)).meta({
      description: '`succeeded`, `compensated` (failed and undone), `failed`, `cancelled`: ended.',
    }),
    percent: z.int().min(0).max(100).meta({
      description: 'Stands still while something is undone, and is 100 only on success.',
    }),
    steps: z.array(step).meta({ description: 'Its steps so far, in their order.' }),
    tenant_id: uuidOrNull('The tenant it works on.'),
    error: z
      .object({ code: z.enum(failureCodes), message: z.string() })
      .nullable()
      .meta({ description: 'Why it failed.' }),
    created_at: time('When it was accepted.'),
    started_at: timeOrNull('When it began.'),
    finished_at: timeOrNull('When it ended.'),
    duration_ms: z.int().nullable().meta({ minimum: 0, description: 'Milliseconds it took.' }),
  })
  .meta({ id: 'Operation', description: 'One run of a pipeline on one tenant.' });

const begun = '2026-01-17T10:30:00.000Z';
const id = '0b5d2a8e-6f0c-4c3a-9d57-3f1f6b7a9c21';
const tenantId = '7fedae1f-e1f8-4ae1-87ae-9130ac7374ee';

/** An operation under way. */
function exampleOf(kind: OperationKind) {
  return {
    id,
    kind: kind.toLowerCase(),
    status: 'running',
    percent: 0,
    steps: [],
    tenant_id: tenantId,
    error: null,
    created_at: begun,
    started_at: begun,
    finished_at: null,
    duration_ms: null,
  };
}

/** An operation that has ended well; its first step stands for all. */
export const operationExample = {
  ...exampleOf('CREATE'),
  status: 'succeeded',
  percent: 100,
  steps: [
    {
      name: 'create_role',
      status: 'succeeded',
      attempts: 1,
      started_at: begun,
      finished_at: '2026-01-17T10:30:00.012Z',
      duration_ms: 12,
    },
  ],
  finished_at: '2026-01-17T10:30:00.090Z',
  duration_ms: 90,
};

/** 202 of a route that runs a mutation. */
export function acceptedDocs(kind: OperationKind): ReplyDocs {
  return {
    description: 'Accepted, on `Prefer: respond-async`: the operation to follow.',
    schema: operationSchema,
    example: exampleOf(kind),
    headers: ['Location'],
    links: { getOperation: { id: 'id' }, followOperation: { id: 'id' } },
  };
}
