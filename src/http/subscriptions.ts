import { isAsyncIterable, type Plugin } from 'graphql-yoga';
import type { AccessWatch } from '../auth/access-watch.ts';
import type { Refusal } from '../errors.ts';
import type { Context } from '../schema/context.ts';
import { presentError, presentErrors, type ErrorLog } from '../schema/errors.ts';
import { subscribeSharing, type ResultStream } from './shared-results.ts';

const streams = new WeakMap<object, ResultStream>();

/**
 * The stream of a subscription that has begun, by its context: as it is before yoga wraps it, so that a
 * transport can take several results at once. It never rejects: what goes wrong is its last result.
 */
export function resultStreamOf(contextValue: unknown): ResultStream | null {
  return streams.get(contextValue as object) ?? null;
}

/**
 * Makes the errors of subscriptions fit to be shown, on every transport: those that keep one from
 * beginning, those in its results, and one that breaks it off, which none of the transports would
 * otherwise tell as anything but a broken connection. When what the caller proved itself with holds no
 * more, the subscription ends with that as its error.
 */
export function subscriptionErrors({
  log,
  access,
}: Pick<ErrorLog, 'log'> & { readonly access: AccessWatch }): Plugin<Context> {
  return {
    onSubscribe({ args, setSubscribeFn }) {
      setSubscribeFn(subscribeSharing);
      const { caller, requestId } = args.contextValue;
      const errorLog = { log, requestId };
      const whileAllowed: WhileAllowed = (ended) => access.watch(caller, ended);
      return {
        onSubscribeResult({ result, setResult }) {
          if (!isAsyncIterable(result)) {
            setResult(presentErrors(result, errorLog));
            return;
          }
          const stream = presentStream(result as ResultStream, errorLog, whileAllowed);
          streams.set(args.contextValue, stream);
          setResult(stream);
        },
      };
    },
  };
}

/** Calls back when the right to the stream is gone; returns what stops that. */
type WhileAllowed = (ended: (refusal: Refusal) => void) => () => void;

// Not an `async function*`: `return` has to reach the source also while it is waited for.
function presentStream(
  source: ResultStream,
  errorLog: ErrorLog,
  whileAllowed: WhileAllowed,
): ResultStream {
  const done = { done: true, value: undefined } as const;
  let refusal: Refusal | null = null;
  let over = false;
  const stopWatching = whileAllowed((reason) => {
    refusal = reason;
    // Whoever waits for the next result hears of it now; who reads later, then.
    source.return().catch(() => undefined);
  });

  function end(): void {
    over = true;
    stopWatching();
  }

  const stream: ResultStream = {
    [Symbol.asyncIterator]: () => stream,
    async next() {
      if (over) return done;
      try {
        const result = await source.next();
        if (refusal !== null) throw refusal;
        if (result.done !== true) {
          return { done: false, value: presentErrors(result.value, errorLog) };
        }
      } catch (error) {
        end();
        return { done: false, value: { errors: [presentError(error, errorLog)] } };
      }
      end();
      return done;
    },
    async nextSome() {
      if (over) return [];
      try {
        const some = await source.nextSome();
        if (refusal !== null) throw refusal;
        if (some.length === 0) end();
        return some.every(({ errors }) => errors === undefined)
          ? some
          : some.map((result) => presentErrors(result, errorLog));
      } catch (error) {
        end();
        return [{ errors: [presentError(error, errorLog)] }];
      }
    },
    async return() {
      end();
      await source.return();
      return done;
    },
  };
  return stream;
}
