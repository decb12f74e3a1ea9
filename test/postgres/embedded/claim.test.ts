import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { cleanUp, freshDirectory, query, start } from './world.ts';

let dataDir: string;
beforeEach(async () => {
  dataDir = join(await freshDirectory(0o711), 'data');
});
afterEach(cleanUp);

describe('one gateway per DATA_DIR', () => {
  it('refuses the second and leaves the first alone', async () => {
    const first = await start(dataDir);
    await expect(start(dataDir)).rejects.toMatchObject({
      code: 'SETTING',
      message: expect.stringMatching(/^DATA_DIR: .* in use by another running gateway/) as string,
    });
    expect(await query(first.url, 'select 1 as one')).toEqual([{ one: 1 }]);
  });

  it('lets one of two first starts win', async () => {
    const starts = await Promise.allSettled([start(dataDir), start(dataDir)]);
    const [winner] = starts.filter((one) => one.status === 'fulfilled');
    const [loser] = starts.filter((one) => one.status === 'rejected');
    expect(String(loser?.reason)).toContain('in use by another running gateway');
    expect(await query(winner!.value.url, 'select 1 as one')).toEqual([{ one: 1 }]);
    await winner!.value.stop();
    expect((await start(dataDir)).url).toBe(winner!.value.url);
  });

  it('starts as soon as the first has stopped', async () => {
    const first = await start(dataDir);
    const [second] = await Promise.all([start(dataDir), first.stop()]);
    expect(second.url).toBe(first.url);
    expect(await query(second.url, 'select 1 as one')).toEqual([{ one: 1 }]);
  });

  it('claims the server again after PostgreSQL ended all sessions', async () => {
    const first = await start(dataDir);
    const holders = `select pid from pg_locks where locktype = 'advisory' and granted`;
    const [before] = await query(first.url, holders);
    await query(first.url, `select pg_terminate_backend(${String(before?.['pid'])})`);
    await expect
      .poll(() => query(first.url, holders), { timeout: 10_000 })
      .not.toEqual(expect.arrayContaining([before]));
    await expect.poll(() => query(first.url, holders), { timeout: 10_000 }).toHaveLength(1);
    await expect(start(dataDir)).rejects.toThrow('in use');
    await first.stop();
    await expect(query(first.url, 'select')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });
});
