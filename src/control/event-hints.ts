import type { Control } from './database.ts';

/** Where listeners learn that there is something to read: ids of operations and batches, or nothing for 'anything'. */
export const eventChannel = 'control_plane_events';

/** Ids that one notification holds: it may have 8000 bytes, an id has 36. */
export const maxHintIds = 200;

/**
 * Notifies listeners, in a transaction of its own. It fails while the server's notification queue is full,
 * which any tenant of the server can bring about: no transaction that matters may carry it. It waits a
 * second at most for the lock under which notifications are queued.
 *
 * @param ids empty: there may be something to read of any
 */
export async function notifyListeners(control: Control, ids: readonly string[]): Promise<void> {
  await control
    .raw(
      `SELECT pg_catalog.set_config('lock_timeout', '1s', true),
         pg_catalog.pg_notify('${eventChannel}', CAST(? AS text))`,
      [ids.join(' ')],
    )
    .options({ name: 'notify_listeners' });
}
