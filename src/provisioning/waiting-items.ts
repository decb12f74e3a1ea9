import type { Reserved } from './reservation.ts';

/**
 * What an instance knows of items of batches that it accepted, until they begin, here or elsewhere. What
 * it does not know, or has forgotten, stands in the registry.
 */
export interface WaitingItems {
  /** Whether places are ready for all of them; also where there are none. */
  readonly areReady: boolean;
  /** How many they are. */
  readonly size: number;
  add(items: readonly Reserved[]): void;
  /** The batches that they are of. */
  batchIds(): ReadonlySet<string>;
  /** Hands over what is known of an item that begins, its login with it. */
  take(operationId: string): Reserved | undefined;
  /**
   * Begins to log in to the places of the next so many items, where these are ready and connections are
   * free: a login takes longest of all that is left to do for them, and most of it is waiting.
   */
  logInNext(count: number): void;
  /** Lets go of an item that will not begin. */
  forget(operationId: string): void;
  /** Lets go of what is left of a batch that has ended: other instances have made it. */
  forgetBatch(batchId: string): void;
  forgetAll(): void;
}

interface Waiting {
  readonly reserved: Reserved;
  /** Ends a login that has not been used by then. Once is enough: who waits for longer is in no hurry. */
  expiry?: NodeJS.Timeout;
}

// An instance that has room begins items within a fraction of this.
const unusedMs = 2_000;

/** Builds the memory of an instance. */
export function createWaitingItems(): WaitingItems {
  const waiting = new Map<string, Waiting>();

  function forget(operationId: string): void {
    const item = waiting.get(operationId);
    if (item === undefined) return;
    waiting.delete(operationId);
    clearTimeout(item.expiry);
    item.reserved.findings.login?.discard();
  }

  /** False: no connection is free for it. */
  function logIn(item: Waiting, begin: NonNullable<Reserved['logIn']>): boolean {
    const { findings } = item.reserved;
    const login = begin();
    if (login === null) return false;
    findings.login = login;
    const end = (): void => {
      login.discard();
      if (findings.login === login) delete findings.login;
    };
    item.expiry = setTimeout(end, unusedMs);
    // One that fails before the item begins is no loss: it logs in itself.
    login.ready.catch(end);
    return true;
  }

  return {
    get areReady() {
      return waiting.values().every(({ reserved }) => reserved.findings.prepared === true);
    },

    get size() {
      return waiting.size;
    },

    add(items) {
      for (const reserved of items) waiting.set(reserved.operation.id, { reserved });
    },

    batchIds() {
      const ids = waiting.values().map(({ reserved }) => reserved.operation.batchId);
      return new Set(ids.filter((id) => id !== null));
    },

    take(operationId) {
      const item = waiting.get(operationId);
      waiting.delete(operationId);
      clearTimeout(item?.expiry);
      return item?.reserved;
    },

    logInNext(count) {
      for (const item of waiting.values().take(count)) {
        const begin = item.reserved.logIn;
        if (begin === null || item.expiry !== undefined) continue;
        if (!logIn(item, begin)) return;
      }
    },

    forget,

    forgetBatch(batchId) {
      for (const [id, { reserved }] of waiting) {
        if (reserved.operation.batchId === batchId) forget(id);
      }
    },

    forgetAll() {
      for (const id of [...waiting.keys()]) forget(id);
    },
  };
}
