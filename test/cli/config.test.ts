import { describe, expect, it } from 'vitest';
import { settingNames } from '../../src/config/settings.ts';
import { generateEncryptionKey } from '../../src/crypto/envelope.ts';
import { runCli } from './run.ts';

describe('config', () => {
  it('prints what is in force', async () => {
    const { code, stdout, stderr } = await runCli('config', { PORT: '8080', UNKNOWN: 'x' });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const lines = stdout.trimEnd().split('\n');
    expect(lines.map((line) => line.split('=')[0])).toEqual(settingNames);
    expect(lines).toContain('PORT=8080');
    expect(lines).toContain('LOG_FORMAT=json (default)');
  });

  it('masks secrets', async () => {
    const key = generateEncryptionKey();
    const { stdout } = await runCli('config', {
      DATABASE_URL: 'postgres://operator:swordfish@db.example.com/control',
      ENCRYPTION_KEY: key,
      AUTH_MODE: 'open',
    });
    expect(stdout).toContain('DATABASE_URL=postgres://operator:***@db.example.com/control\n');
    expect(stdout).not.toContain('swordfish');
    expect(stdout).not.toContain(key);
  });

  it('prints every problem and exits with 1', async () => {
    const { code, stdout, stderr } = await runCli('config', {
      PORT: 'http',
      HOST: '0.0.0.0',
      ENCRYPTION_KEY: 'swordfish',
    });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr.match(/^[A-Z_]+(?=: )/gm)?.sort()).toEqual(['ENCRYPTION_KEY', 'HOST', 'PORT']);
    expect(stderr.trimEnd().split('\n')).toHaveLength(3);
    expect(stderr).not.toContain('swordfish');
  });
});
