import { describe, expect, test } from 'vitest';
import type { Reserved } from '../../src/provisioning/reservation.ts';
import { createWaitingItems } from '../../src/provisioning/waiting-items.ts';

/** An item as it was accepted, as far as it matters here. */
function item(id: string, batchId: string, ready: boolean, log: string[] = []): Reserved {
  const logIn = () => {
    log.push(`login ${id}`);
    return {
      ready: new Promise(() => undefined),
      discard: () => log.push(`end ${id}`),
    };
  };
  const findings = ready ? { prepared: true } : {};
  return { operation: { id, batchId }, findings, logIn: ready ? logIn : null } as never;
}

describe('the items of batches that wait on an instance', () => {
  test('are ready when all of them have their standby', () => {
    const items = createWaitingItems();
    expect(items.areReady).toBe(true);
    items.add([item('a', 'one', true)]);
    expect(items.areReady).toBe(true);
    items.add([item('b', 'two', false)]);
    expect(items.areReady).toBe(false);
    items.take('b');
    expect(items.areReady).toBe(true);
    items.forgetAll();
  });

  test('are logged in to in their order, once, and as many as asked for', () => {
    const log: string[] = [];
    const items = createWaitingItems();
    items.add(['a', 'b', 'c', 'd'].map((id) => item(id, 'one', id !== 'b', log)));
    items.logInNext(3);
    items.logInNext(3);
    expect(log).toEqual(['login a', 'login c']);
    items.forgetAll();
  });

  test('of one that begins the login goes with it; of one that does not, it ends', () => {
    const log: string[] = [];
    const items = createWaitingItems();
    items.add([item('a', 'one', true, log), item('b', 'one', true, log)]);
    items.logInNext(2);
    expect(items.take('a')?.findings.login).toBeDefined();
    items.forget('b');
    items.forget('a'); // is not there any more
    expect(log).toEqual(['login a', 'login b', 'end b']);
    expect(items.take('b')).toBeUndefined();
  });

  test('of a batch that has ended are forgotten, those of others are not', () => {
    const items = createWaitingItems();
    items.add([item('a', 'one', false), item('b', 'two', false), item('c', 'one', false)]);
    expect([...items.batchIds()]).toEqual(['one', 'two']);
    items.forgetBatch('one');
    expect([...items.batchIds()]).toEqual(['two']);
    expect(['a', 'b', 'c'].map((id) => items.take(id)?.operation.id)).toEqual([
      undefined,
      'b',
      undefined,
    ]);
  });
});
