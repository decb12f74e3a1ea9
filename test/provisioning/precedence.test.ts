import { setImmediate } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { createPrecedence } from '../../src/provisioning/precedence.ts';

const never = new AbortController().signal;

/** Copies that stay under way until they are ended, in the order in which their turn came. */
function copies(precedence = createPrecedence()) {
  const begun: string[] = [];
  const ends = new Map<string, () => void>();
  return {
    precedence,
    begun,
    copy: (name: string, cluster = 'a', signal = never) =>
      precedence.inTurn(
        cluster,
        () => {
          begun.push(name);
          const { promise, resolve } = Promise.withResolvers<undefined>();
          ends.set(name, () => resolve(undefined));
          return promise;
        },
        signal,
      ),
    end: (name: string) => ends.get(name)!(),
  };
}

describe('copies of databases for batches', () => {
  test('two at once on a cluster; another cluster is not concerned', async () => {
    const { begun, copy, end } = copies();
    const all = [copy('1'), copy('2'), copy('3'), copy('other', 'b')];
    await expect.poll(() => begun).toEqual(['1', '2', 'other']);
    end('1');
    await all[0];
    await expect.poll(() => begun).toEqual(['1', '2', 'other', '3']);
  });

  test('one while somebody waits, and two again a while after', async () => {
    const { begun, copy, end, precedence } = copies();
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const first = copy('1');
    await expect.poll(() => begun).toEqual(['1']);
    const awaited = precedence.awaited(() => promise);
    expect(precedence.isAwaited()).toBe(true);
    const rest = [copy('2'), copy('3'), copy('4', 'b'), copy('5', 'b')];
    await expect.poll(() => begun).toEqual(['1', '4']);
    end('1');
    await first;
    await expect.poll(() => begun).toEqual(['1', '4', '2']); // a batch never stands still
    resolve(undefined);
    await awaited;
    expect(precedence.isAwaited()).toBe(false);
    await setImmediate();
    expect(begun).toEqual(['1', '4', '2']);
    await expect
      .poll(() => begun.toSorted(), { timeout: 10_000 })
      .toEqual(['1', '2', '3', '4', '5']);
    for (const name of ['2', '3', '4', '5']) end(name);
    await Promise.all(rest);
  });

  test('one that is given up before its turn is not made', async () => {
    const { begun, copy, end } = copies();
    const given = new AbortController();
    const running = [copy('1'), copy('2')];
    const waiting = copy('3', 'a', given.signal);
    const behind = copy('4');
    await expect.poll(() => begun).toEqual(['1', '2']);
    given.abort(new Error('past its deadline'));
    end('1');
    await expect(waiting).rejects.toThrow('past its deadline');
    await expect.poll(() => begun).toEqual(['1', '2', '4']);
    end('2');
    end('4');
    await Promise.all([...running, behind]);
  });
});

test('who waits is told of when he waits no more, also after a failure', async () => {
  const precedence = createPrecedence();
  let told = 0;
  precedence.whenFree(() => {
    told += 1;
  });
  const { promise, reject } = Promise.withResolvers<undefined>();
  const both = [precedence.awaited(() => promise), precedence.awaited(() => Promise.resolve(1))];
  expect(await both[1]).toBe(1);
  expect(told).toBe(0);
  reject(new Error('failed'));
  await expect(both[0]).rejects.toThrow('failed');
  expect(told).toBe(1);
});

describe('between the steps of what is made for a batch', () => {
  test('it goes on at once when nobody waits, and as soon as nobody does', async () => {
    const precedence = createPrecedence();
    await precedence.giveWay();
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const order: string[] = [];
    const awaited = precedence.awaited(() => promise).then(() => order.push('awaited'));
    const gone = precedence.giveWay().then(() => order.push('batch'));
    expect(order).toEqual([]);
    resolve(undefined);
    await Promise.all([awaited, gone]);
    expect(order.toSorted()).toEqual(['awaited', 'batch']);
  });

  test('it does not stand still when somebody waits for ever', async () => {
    const precedence = createPrecedence();
    void precedence.awaited(() => new Promise(() => undefined));
    await precedence.giveWay();
    expect(precedence.isAwaited()).toBe(true);
  });
});
