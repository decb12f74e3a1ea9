import type { ExecutionResult } from 'graphql';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ErrorForm } from './errors.ts';
import type { Reply } from './reply.ts';
import type { Dialect, RestRequest, ServerSentEvent, StreamRoute } from './route.ts';
import { topLevelProblem } from './run.ts';

/** Begins a subscription through the gateway's own engine: a result with errors, or its results. */
export type Subscribe = (
  document: string,
  variables: Readonly<Record<string, unknown>>,
) => Promise<ExecutionResult | AsyncIterator<ExecutionResult, undefined>>;

/** Events to send; whoever reads them calls `return` when it stops early. */
export type EventSequence = AsyncIterator<ServerSentEvent, undefined>;

/**
 * Answers one request with the events of its route's subscription, or with a problem. A client that
 * goes on after the last event gets 204, which tells an `EventSource` not to come back.
 */
export async function runStream(
  dialect: Dialect,
  route: StreamRoute,
  request: RestRequest,
  subscribe: Subscribe,
): Promise<Reply | EventSequence> {
  const lastEventId = request.header('last-event-id');
  const after = lastEventId === null ? null : wholeNumber(lastEventId);
  if (Number.isNaN(after)) {
    const message = 'Last-Event-ID must be the id of an event: a whole number';
    return dialect.errors({ code: 'BAD_USER_INPUT', message });
  }
  const variables = route.variables({ params: request.params, after });
  const results = await subscribe(route.document, variables);
  if (!('next' in results)) {
    return topLevelProblem(results, dialect.errors) ?? Promise.reject(noSubscription(route));
  }
  const first = results.next();
  if (after !== null && (await endsAtOnce(first))) return { status: 204, body: null };
  return toEvents(route, results, first, dialect.errors);
}

function wholeNumber(text: string): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : NaN;
  return Number.isSafeInteger(value) ? value : NaN;
}

const patienceMs = 250;

async function endsAtOnce(first: Promise<IteratorResult<unknown>>): Promise<boolean> {
  const waiting = new AbortController();
  const ended = await Promise.race([
    first.then(({ done }) => done === true),
    sleep(patienceMs, false, { signal: waiting.signal }).catch(() => false),
  ]);
  waiting.abort();
  return ended;
}

function toEvents(
  route: StreamRoute,
  results: AsyncIterator<ExecutionResult, undefined>,
  first: Promise<IteratorResult<ExecutionResult, undefined>>,
  errors: ErrorForm,
): EventSequence {
  let begun = false;
  return {
    async next() {
      const result = await (begun ? results.next() : first);
      begun = true;
      if (result.done === true) return result;
      const problem = topLevelProblem(result.value, errors);
      const value =
        problem === null
          ? route.event(result.value.data as Record<string, unknown>)
          : { id: null, event: 'error', body: problem.body };
      return { done: false, value };
    },
    async return() {
      await results.return?.();
      return { done: true, value: undefined };
    },
  };
}

function noSubscription({ path }: StreamRoute): Error {
  return new Error(`${path} runs a document that is no subscription`);
}
