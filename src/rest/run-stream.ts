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
) => Promise<ExecutionResult | Results>;

interface Results {
  /** All that is there, once something is; none: it has ended. */
  nextSome(): Promise<readonly ExecutionResult[]>;
  return(): Promise<unknown>;
}

/** Events to send; whoever reads them calls `return` when it stops early. */
export interface EventSequence {
  /** All that is there, once something is; none: it has ended. Whoever gets the same, gets the same array. */
  nextSome(): Promise<readonly ServerSentEvent[]>;
  return(): Promise<void>;
}

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
  if (!('nextSome' in results)) {
    return topLevelProblem(results, dialect.errors) ?? Promise.reject(noSubscription(route));
  }
  const first = results.nextSome();
  if (after !== null && (await endsAtOnce(first))) return { status: 204, body: null };
  return toEvents(route, results, first, dialect.errors);
}

function wholeNumber(text: string): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : NaN;
  return Number.isSafeInteger(value) ? value : NaN;
}

const patienceMs = 250;

async function endsAtOnce(first: Promise<readonly unknown[]>): Promise<boolean> {
  const waiting = new AbortController();
  const ended = await Promise.race([
    first.then(({ length }) => length === 0),
    sleep(patienceMs, false, { signal: waiting.signal }).catch(() => false),
  ]);
  waiting.abort();
  return ended;
}

function toEvents(
  route: StreamRoute,
  results: Results,
  first: Promise<readonly ExecutionResult[]>,
  errors: ErrorForm,
): EventSequence {
  let begun = false;
  return {
    async nextSome() {
      const some = await (begun ? results.nextSome() : first);
      begun = true;
      let known = sent.get(some);
      if (known === undefined) {
        known = some.map((result) => toEvent(route, result, errors));
        sent.set(some, known);
      }
      return known;
    },
    async return() {
      await results.return();
    },
  };
}

// Who reads the same progress gets the same results, of which the events are made once. No two routes
// ask by the same document.
const sent = new WeakMap<readonly ExecutionResult[], readonly ServerSentEvent[]>();

function toEvent(route: StreamRoute, result: ExecutionResult, errors: ErrorForm): ServerSentEvent {
  const problem = topLevelProblem(result, errors);
  return problem === null
    ? route.event(result.data as Record<string, unknown>)
    : { id: null, event: 'error', body: problem.body };
}

function noSubscription({ path }: StreamRoute): Error {
  return new Error(`${path} runs a document that is no subscription`);
}
