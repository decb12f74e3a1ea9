export interface RepeatedLookOptions {
  /** From one look to the next, milliseconds; longer while one takes longer. */
  readonly everyMs: number;
  readonly look: () => Promise<void>;
  /** Told of a look that failed; the next one comes all the same. */
  readonly onError: (error: unknown) => void;
}

/** A look at the registry, taken again and again by an instance, and never twice at once. */
export interface RepeatedLook {
  start(): void;
  /** Takes no more, and waits for the one under way. */
  stop(): Promise<void>;
}

/** Builds one. The first comes after the interval. */
export function repeatLook({ everyMs, look, onError }: RepeatedLookOptions): RepeatedLook {
  let looking: Promise<void> | null = null;
  let timer: NodeJS.Timeout | undefined;
  return {
    start() {
      timer = setInterval(() => {
        looking ??= look()
          .catch(onError)
          .finally(() => {
            looking = null;
          });
      }, everyMs);
    },

    async stop() {
      clearInterval(timer);
      await looking;
    },
  };
}
