import type { ExecutionResult } from 'graphql';
import { isAsyncIterable, type Plugin } from 'graphql-yoga';
import type { Context } from '../schema/context.ts';
import { presentError, presentErrors, type ErrorLog } from '../schema/errors.ts';

/** The results of a subscription. It never rejects: what goes wrong is its last result. */
export type ResultStream = AsyncIterableIterator<ExecutionResult, undefined>;

/**
 * Makes the errors of subscriptions fit to be shown, on every transport: those that keep one from
 * beginning, those in its results, and one that breaks it off, which none of the transports would
 * otherwise tell as anything but a broken connection.
 */
export function subscriptionErrors({ log }: Pick<ErrorLog, 'log'>): Plugin<Context> {
  return {
    onSubscribe({ args }) {
      const errorLog = { log, requestId: args.contextValue.requestId };
      return {
        onSubscribeResult({ result, setResult }) {
          setResult(
            isAsyncIterable(result)
              ? presentStream(result, errorLog)
              : presentErrors(result, errorLog),
          );
        },
      };
    },
  };
}

// Not an `async function*`: `return` has to reach the source also while it is waited for.
function presentStream(results: AsyncIterable<ExecutionResult>, errorLog: ErrorLog): ResultStream {
  const source = results[Symbol.asyncIterator]();
  const done = { done: true, value: undefined } as const;
  let over = false;
  const stream: ResultStream = {
    [Symbol.asyncIterator]: () => stream,
    async next() {
      if (over) return done;
      try {
        const result = await source.next();
        if (result.done !== true) {
          return { done: false, value: presentErrors(result.value, errorLog) };
        }
      } catch (error) {
        over = true;
        return { done: false, value: { errors: [presentError(error, errorLog)] } };
      }
      over = true;
      return done;
    },
    async return() {
      over = true;
      await source.return?.();
      return done;
    },
  };
  return stream;
}
