import { describe, expect, test, vi } from 'vitest';
import { recogniseLocalOperator } from '../../src/auth/local-operator.ts';
import { createRecognition, type Credentials, type Presented } from '../../src/auth/recognition.ts';
import { Refusal } from '../../src/errors.ts';
import { permissions, type Caller } from '../../src/provisioning/caller.ts';

const from = { ipAddress: '127.0.0.1' };
const nothing: Presented = { ...from, authorization: null, apiKey: null };
const something: Presented = { ...from, authorization: 'Bearer x', apiKey: null };
const caller = (subject: string): Caller => ({
  kind: 'USER',
  subject,
  partner: 'acme',
  scope: { partner: 'acme' },
  roles: [],
  permissions: new Set(),
  credential: { kind: 'none' },
});

describe('recognition', () => {
  test('the first that knows the credentials decides, and no other is asked', async () => {
    const unknowing = vi.fn(() => null);
    const knowing = vi.fn(() => Promise.resolve(caller('first')));
    const late = vi.fn(() => caller('second'));
    const recognise = createRecognition([unknowing, knowing, late]);
    expect(await recognise(something)).toMatchObject({ subject: 'first' });
    expect(unknowing).toHaveBeenCalledExactlyOnceWith({ authorization: 'Bearer x', apiKey: null });
    expect(knowing).toHaveBeenCalledExactlyOnceWith({ authorization: 'Bearer x', apiKey: null });
    expect(late).not.toHaveBeenCalled();
  });

  test('bad credentials are refused, though a later one would take them', async () => {
    const refusal = new Refusal('UNAUTHENTICATED', 'The token has expired');
    const late = vi.fn(() => caller('anybody'));
    const recognise = createRecognition([() => Promise.reject(refusal), late]);
    await expect(recognise(something)).rejects.toBe(refusal);
    expect(late).not.toHaveBeenCalled();
  });

  test('an outage is no refusal', async () => {
    const outage = new Error('connection refused');
    const recognise = createRecognition([() => Promise.reject(outage)]);
    await expect(recognise(something)).rejects.toBe(outage);
  });

  test.for([
    [something, 'These credentials are not valid here'],
    [{ ...from, authorization: null, apiKey: 'tk_x' }, 'These credentials are not valid here'],
    [{ ...from, authorization: '', apiKey: null }, 'These credentials are not valid here'],
    [
      { ...from, authorization: 'Bearer x', apiKey: 'tk_x' },
      'Present one of Authorization and X-API-Key, not both',
    ],
    [nothing, 'Credentials are required'],
  ] as const)('%j that nobody knows: %s', async ([credentials, message]) => {
    for (const recognisers of [[], [() => null, () => Promise.resolve(null)]]) {
      const refused = createRecognition(recognisers)(credentials);
      await expect(refused).rejects.toThrow(Refusal);
      await expect(refused).rejects.toMatchObject({ code: 'UNAUTHENTICATED', message });
    }
  });
});

describe('the local operator', () => {
  test('is who comes without credentials, and may do everything everywhere', async () => {
    const operator = await createRecognition([recogniseLocalOperator])(nothing);
    expect(operator).toEqual({
      kind: 'OPERATOR',
      subject: 'local-operator',
      partner: null,
      scope: null,
      roles: ['platform-admin'],
      permissions: new Set(permissions),
      credential: { kind: 'none' },
    });
  });

  test.for<Credentials>([
    { authorization: 'Bearer x', apiKey: null },
    { authorization: '', apiKey: null },
    { authorization: null, apiKey: 'tk_x' },
    { authorization: null, apiKey: '' },
    { authorization: 'Basic x', apiKey: 'tk_x' },
  ])('is nobody who presents some: %j', (credentials) => {
    expect(recogniseLocalOperator(credentials)).toBeNull();
  });
});
