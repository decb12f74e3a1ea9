import {
  createSourceEventStream,
  executeSubscriptionEvent,
  validateSubscriptionArgs,
  visit,
  type ExecutionArgs,
  type ExecutionResult,
  type OperationDefinitionNode,
  type ValidatedSubscriptionArgs,
} from 'graphql';
import { isAsyncIterable } from 'graphql-yoga';

/** The results of a subscription. */
export interface ResultStream extends AsyncIterableIterator<ExecutionResult, undefined> {
  /** All that is there, once something is; none: it has ended. */
  nextSome(): Promise<readonly ExecutionResult[]>;
  return(): Promise<IteratorResult<ExecutionResult, undefined>>;
}

/**
 * `subscribe` of GraphQL, for many subscribers to the same events: where documents are the same, and ask
 * for the same whatever their variables, the result of an event is made once. What events tell must not
 * depend on who asks: that is decided when a subscription begins.
 */
export async function subscribeSharing(
  args: ExecutionArgs,
): Promise<ExecutionResult | ResultStream> {
  const validated = validateSubscriptionArgs(args);
  if (!('schema' in validated)) return { errors: validated };
  const source = await createSourceEventStream(validated);
  return isAsyncIterable(source) ? resultsOf(source, validated) : source;
}

// Not an `async function*`: `return` has to reach the source also while it is waited for.
function resultsOf(source: AsyncIterable<unknown>, args: ValidatedSubscriptionArgs): ResultStream {
  const events = source[Symbol.asyncIterator]() as Events;
  const done = { done: true, value: undefined } as const;
  const results: ResultStream = {
    [Symbol.asyncIterator]: () => results,
    async next() {
      const next = await events.next();
      return next.done === true ? done : { done: false, value: await resultOf(next.value, args) };
    },
    async nextSome() {
      const some = await events.nextSome();
      return some.length === 0 ? [] : resultsOfSome(some, args);
    },
    async return() {
      await events.return?.();
      return done;
    },
  };
  return results;
}

/** What every field of `Subscription` is made from. */
interface Events extends AsyncIterator<object, undefined> {
  nextSome(): Promise<readonly object[]>;
}

/** Results of the same events, for the same operation: those who get them get the same array. */
const madeOfSome = new WeakMap<
  readonly object[],
  Map<OperationDefinitionNode, Promise<readonly ExecutionResult[]>>
>();

function resultsOfSome(
  events: readonly object[],
  args: ValidatedSubscriptionArgs,
): Promise<readonly ExecutionResult[]> {
  const make = (): Promise<readonly ExecutionResult[]> =>
    Promise.all(events.map(async (event) => resultOf(event, args)));
  if (!isShareable(args)) return make();
  return remembered(madeOfSome, events, args.operation, make);
}

type Result = ExecutionResult | Promise<ExecutionResult>;

const made = new WeakMap<object, Map<OperationDefinitionNode, Result>>();

function resultOf(event: object, args: ValidatedSubscriptionArgs): Result {
  const execute = (): Result => executeSubscriptionEvent({ ...args, rootValue: event });
  return isShareable(args) ? remembered(made, event, args.operation, execute) : execute();
}

/** What was made of events for an operation: it is forgotten with them. */
function remembered<K extends object, T>(
  memory: WeakMap<K, Map<OperationDefinitionNode, T>>,
  events: K,
  operation: OperationDefinitionNode,
  make: () => T,
): T {
  let known = memory.get(events);
  if (known === undefined) {
    known = new Map();
    memory.set(events, known);
  }
  let result = known.get(operation);
  if (result === undefined) {
    result = make();
    known.set(operation, result);
  }
  return result;
}

const shareable = new WeakMap<OperationDefinitionNode, boolean>();

/** Whether what is asked of an event depends on no variable: only the arguments that choose events do. */
function isShareable({ fragmentDefinitions, operation }: ValidatedSubscriptionArgs): boolean {
  let known = shareable.get(operation);
  if (known === undefined) {
    known =
      Object.keys(fragmentDefinitions).length === 0 &&
      operation.selectionSet.selections.every(
        (field) =>
          field.kind === 'Field' &&
          (field.directives ?? []).length === 0 &&
          (field.selectionSet === undefined || !usesVariables(field.selectionSet)),
      );
    shareable.set(operation, known);
  }
  return known;
}

function usesVariables(selection: NonNullable<OperationDefinitionNode['selectionSet']>): boolean {
  let found = false;
  visit(selection, {
    Variable() {
      found = true;
    },
  });
  return found;
}
