import { createClient as createSseClient } from 'graphql-sse';
import { createClient as createWebSocketClient } from 'graphql-ws';
import { expect } from 'vitest';
import { WebSocket } from 'ws';
import type { TestGateway } from '../harness.ts';

/** One event of `Subscription.tenantProvisioningProgress`, whichever way it came. */
export interface Progress {
  readonly sequence: number;
  readonly operationId: string;
  readonly tenantId: string;
  readonly step: string;
  readonly status: string;
  readonly percent: number;
  readonly message: string;
  readonly at: string;
  readonly operationStatus: string;
  readonly batchId: string | null;
  readonly batch: {
    readonly total: number;
    readonly succeeded: number;
    readonly failed: number;
    readonly percent: number;
  } | null;
}

export interface Selection {
  readonly operationId?: string;
  readonly batchId?: string;
  readonly tenantId?: string;
  readonly idempotencyKey?: string;
  readonly afterSequence?: number;
}

export interface Result {
  readonly data?: { readonly tenantProvisioningProgress: Progress } | null;
  readonly errors?: readonly {
    readonly message: string;
    readonly extensions?: Record<string, unknown>;
  }[];
}

export const progressDocument = `subscription Watch(
  $operationId: ID, $batchId: ID, $tenantId: ID, $idempotencyKey: String, $afterSequence: BigInt
) {
  tenantProvisioningProgress(
    operationId: $operationId, batchId: $batchId, tenantId: $tenantId,
    idempotencyKey: $idempotencyKey, afterSequence: $afterSequence
  ) {
    sequence operationId tenantId step status percent message at operationStatus batchId
    batch { total succeeded failed percent }
  }
}`;

/** The address of a gateway's WebSocket. */
export function socketUrl(gateway: Pick<TestGateway, 'url'>): string {
  return `${gateway.url.replace('http', 'ws')}/graphql`;
}

type Watch = (gateway: TestGateway, selection: Selection) => AsyncIterableIterator<Result>;

/** Over WebSocket, with the client of graphql-ws, on a connection of its own. */
export const overWebSocket: Watch = (gateway, selection) => {
  const url = socketUrl(gateway);
  const client = createWebSocketClient({ url, webSocketImpl: WebSocket, retryAttempts: 0 });
  const variables = { ...selection };
  return client.iterate({ query: progressDocument, variables }) as AsyncIterableIterator<Result>;
};

/** Over server-sent events at /graphql, with the client of graphql-sse. */
export const overServerSentEvents: Watch = (gateway, selection) => {
  const client = createSseClient({ url: `${gateway.url}/graphql`, retryAttempts: 0 });
  const variables = { ...selection };
  return client.iterate({ query: progressDocument, variables }) as AsyncIterableIterator<Result>;
};

/** Over `GET /api/operations/{id}/events`; by operation or batch only. */
const overRest: Watch = async function* (gateway, { operationId, batchId, afterSequence }) {
  const path = batchId === undefined ? `operations/${operationId ?? ''}` : `batches/${batchId}`;
  for await (const { data } of restEvents(gateway, path, afterSequence)) {
    const event = JSON.parse(data) as Record<string, string>;
    const tenantProvisioningProgress = {
      ...event,
      operationId: event['operation_id'],
      tenantId: event['tenant_id'],
      batchId: event['batch_id'],
      status: event['status']?.toUpperCase(),
      operationStatus: event['operation_status']?.toUpperCase(),
    } as unknown as Progress;
    yield { data: { tenantProvisioningProgress } };
  }
};

export interface RestEvent {
  readonly id: string;
  readonly event: string;
  readonly data: string;
}

/** The events of `GET /api/{path}/events` as they come; rejects unless it answers 200. */
async function* restEvents(
  gateway: TestGateway,
  path: string,
  lastEventId?: number,
): AsyncGenerator<RestEvent, undefined> {
  const headers: HeadersInit =
    lastEventId === undefined ? {} : { 'Last-Event-ID': String(lastEventId) };
  const url = `${gateway.url}/api/${path}/events`;
  const response = await fetch(url, { headers });
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toBe('text/event-stream');
  let text = '';
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    const blocks = (text + chunk).split('\n\n');
    text = blocks.pop() ?? '';
    for (const block of blocks) {
      if (block.startsWith(':')) continue;
      const fields = block.split('\n').map((line) => line.split(/: (.*)/s, 2));
      yield Object.fromEntries(fields) as RestEvent;
    }
  }
  expect(text, 'it ends with a whole event').toBe('');
}

/** Every way to watch one operation. */
export const ways: readonly (readonly [name: string, watch: Watch])[] = [
  ['graphql-ws', overWebSocket],
  ['graphql-sse', overServerSentEvents],
  ['GET /api/operations/{id}/events', overRest],
];

/** The events of a stream up to its end; rejects when an error is among them. */
export async function all(results: AsyncIterable<Result>): Promise<Progress[]> {
  const events: Progress[] = [];
  for await (const result of results) events.push(eventOf(result));
  return events;
}

/** The events of a stream until one of a step with a status has come; the stream stays open. */
export async function until(
  results: AsyncIterator<Result>,
  step: string,
  status: string,
): Promise<Progress[]> {
  for (const events: Progress[] = []; ;) {
    const result = await results.next();
    if (result.done === true) throw new Error(`it ended before ${step} ${status}`);
    const event = eventOf(result.value);
    events.push(event);
    if (event.step === step && event.status === status) return events;
  }
}

/** The code of the error that a subscription answers with, as its only result. */
export async function codeOf(results: AsyncIterator<Result>): Promise<unknown> {
  const { value } = (await results.next()) as { value: Result | undefined };
  expect(value?.data ?? null).toBeNull();
  expect((await results.next()).done).toBe(true);
  return value?.errors?.[0]?.extensions?.['code'];
}

function eventOf({ data, errors }: Result): Progress {
  if (data == null) throw new Error(JSON.stringify(errors));
  return data.tenantProvisioningProgress;
}

/** How many subscriptions a gateway holds, by its log. */
export function openSubscriptions(gateway: TestGateway): number {
  const counts = gateway.logs().matchAll(/"subscriptions":(\d+)/g);
  return Number([...counts].at(-1)?.[1] ?? 0);
}

/** Resolves when a gateway holds so many subscriptions; rejects when that does not come. */
export async function expectOpen(gateway: TestGateway, count: number): Promise<void> {
  await expect.poll(() => openSubscriptions(gateway), { timeout: 5_000, interval: 20 }).toBe(count);
}
