import { expect, it } from 'vitest';
import { runCli } from './run.ts';

it('generate-key prints one key and nothing else, another each time', async () => {
  const first = await runCli('generate-key');
  expect(first).toEqual({
    code: 0,
    stdout: expect.stringMatching(/^[A-Za-z0-9_-]{43}\n$/) as string,
    stderr: '',
  });
  expect((await runCli('generate-key')).stdout).not.toBe(first.stdout);
});
