import { afterEach, describe, expect, it } from 'vitest';
import {
  createTenant,
  embeddedPid,
  endAll,
  freshDataDir,
  startAndEnd,
  startGateway,
} from './gateway-process.ts';

afterEach(endAll);

describe('a DATA_DIR', () => {
  it('whose gateway was killed goes on with the server that it left', async () => {
    const settings = { DATA_DIR: await freshDataDir() };
    const killed = await startGateway({ settings });
    expect((await createTenant(await killed.listening(), 'kept')).status).toBe(201);
    killed.signal('SIGKILL');
    expect((await killed.ended()).code).toBeNull();
    const left = await embeddedPid(settings.DATA_DIR);
    expect(left).not.toBeNull();

    const next = await startGateway({ settings });
    expect((await createTenant(await next.listening(), 'kept')).status).toBe(400);
    expect(next.stdout()).toContain('left behind by an earlier run');
    expect(await embeddedPid(settings.DATA_DIR)).toBe(left);
    next.signal('SIGTERM');
    expect((await next.ended()).code).toBe(0);
    expect(await embeddedPid(settings.DATA_DIR)).toBeNull();
  });

  it('in use refuses a second gateway in one line that says whose it is', async () => {
    const settings = { DATA_DIR: await freshDataDir() };
    const first = await startGateway({ settings, by: 'npm' });
    const url = await first.listening();
    // Its gateway lives on, without anybody who could tell of it.
    first.signal('SIGKILL');

    const { code, stdout, stderr } = await startAndEnd(settings);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^DATA_DIR: .* in use by another running gateway .*\n$/);
    expect((await createTenant(url, 'untouched')).status).toBe(201);

    process.kill(Number(/process id (\d+)/.exec(stderr)?.[1]), 'SIGTERM');
    await first.ended();
    expect(await embeddedPid(settings.DATA_DIR)).toBeNull();
  });
});
