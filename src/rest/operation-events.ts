import { z } from 'zod';
import { operationExample } from './operation-docs.ts';
import type { RouteDocs } from './docs.ts';
import { streamRoute, type ServerSentEvent } from './route.ts';

/** The selection `progressFields`. */
export interface ProgressResult {
  readonly tenantProvisioningProgress: {
    readonly sequence: number;
    readonly operationId: string;
    readonly tenantId: string;
    readonly batchId: string | null;
    readonly step: string;
    readonly status: string;
    readonly percent: number;
    readonly message: string;
    readonly at: string;
    readonly operationStatus: string;
    readonly batch: {
      readonly total: number;
      readonly succeeded: number;
      readonly failed: number;
      readonly percent: number;
    } | null;
  };
}

/** What every document that streams progress selects. */
export const progressFields = /* GraphQL */ `
  sequence operationId tenantId batchId step status percent message at operationStatus
  batch { total succeeded failed percent }
`;

/** An event as it goes out. */
export function progressEvent({
  tenantProvisioningProgress: event,
}: ProgressResult): ServerSentEvent {
  return {
    id: String(event.sequence),
    event: 'progress',
    body: {
      sequence: event.sequence,
      operation_id: event.operationId,
      tenant_id: event.tenantId,
      batch_id: event.batchId,
      step: event.step,
      status: event.status.toLowerCase(),
      percent: event.percent,
      message: event.message,
      at: event.at,
      operation_status: event.operationStatus.toLowerCase(),
      batch: event.batch,
    },
  };
}

/** What the two streams say of themselves. */
export const streamRules = `
- \`event: progress\`; \`id\` is the sequence, \`data\` a JSON object.
- \`Last-Event-ID\` goes on after that event, on any instance. An \`EventSource\` sends it by itself when it
  reconnects; after the last event it gets \`204\`, and stops.
- \`event: error\` is last when the stream breaks off; its data is an error as in other answers.
- Lines that begin with a colon say that the connection lives.`;

/** The replies of a stream, by status. */
export function streamReplies(example?: string): RouteDocs['replies'] {
  return {
    200: {
      description: 'The events.',
      mediaType: 'text/event-stream',
      schema: z.string().meta({
        description: 'Server-sent events, as the HTML standard has them.',
      }),
      ...(example === undefined ? {} : { example }),
      headers: ['Cache-Control'],
    },
    204: { description: 'There is nothing after `Last-Event-ID`, and nothing will come.' },
  };
}

/** The first event of a creation, as it goes out. */
function firstEvent(): string {
  const body = {
    sequence: 1,
    operation_id: operationExample.id,
    tenant_id: operationExample.tenant_id,
    batch_id: null,
    step: 'validate',
    status: 'started',
    percent: 0,
    message: 'validate started',
    at: operationExample.created_at,
    operation_status: 'running',
    batch: null,
  };
  return `id: 1\nevent: progress\ndata: ${JSON.stringify(body)}\n\n`;
}

/** Progress of one operation: what happened so far, then what comes, then the end. */
export const operationEventsRoute = streamRoute<ProgressResult>({
  method: 'GET',
  path: '/api/operations/:id/events',
  document: /* GraphQL */ `
    subscription OperationEvents($operationId: ID!, $after: BigInt) {
      tenantProvisioningProgress(operationId: $operationId, afterSequence: $after) { ${progressFields} }
    }
  `,
  variables: ({ params, after }) => ({ operationId: params['id'], after }),
  event: progressEvent,
  docs: {
    operationId: 'followOperation',
    summary: 'Progress of an operation, live',
    description: `Server-sent events: what happened so far, then what comes. The stream ends after the last
event, whose \`operation_status\` is \`succeeded\`, \`compensated\`, \`failed\` or \`cancelled\`.
${streamRules}`,
    params: { id: { description: 'Its UUID.', example: operationExample.id } },
    requestHeaders: ['Last-Event-ID'],
    replies: streamReplies(firstEvent()),
    problems: {
      NOT_FOUND: 'There is no such operation',
      BAD_USER_INPUT: 'Last-Event-ID must be the id of an event: a whole number',
    },
  },
});
