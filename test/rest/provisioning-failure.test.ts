import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { runningSteps, scriptFailpoints } from '../provisioning/failpoints.ts';
import { path } from './contract-a.ts';

let world: World;
let gateway: TestGateway;
const failpoints = scriptFailpoints();

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start({ failpoints });
});
afterAll(() => world.close());
afterEach(() => failpoints.clear());

// What a driver may say of a failure, and no caller may read.
const secret = Object.assign(
  new Error('password "hunter2" refused by db.internal:5432: SELECT secret FROM vault'),
  {
    code: '42501',
    detail: 'postgres://admin:hunter2@db.internal/control',
    parameters: ['hunter2'],
  },
);

describe('POST /api/v1/tenants: 500 when provisioning failed', () => {
  // After `activate` the tenant is there: nothing is undone.
  const points = runningSteps
    .flatMap((step) => [`${step}:before`, `${step}:after`])
    .filter((point) => point !== 'activate:after');

  test.for(points)('at %s: names the step, and everything was undone', async (point) => {
    failpoints.fail(point, Infinity, secret);
    const step = point.replace(/:.*/, '');
    const body = { name: `fails ${point}`, environment: 'production' };
    const answer = await gateway.post(path, body);
    expect(answer.status).toBe(500);
    expect(answer.json).toEqual({
      detail: `Step ${step} failed. Everything was undone.`,
    });
    expect(answer.headers.has('location')).toBe(false);
    expect(await world.leftovers()).toEqual({ databases: [], roles: [] });
    const rows = await world.query('SELECT status FROM control_plane.tenants WHERE name = $1', [
      body.name,
    ]);
    expect(rows).toEqual([{ status: 'FAILED' }]);
  });

  test('nothing of the cause is in any answer, and all of it in the log', async () => {
    failpoints.fail('create_database:after', Infinity, secret);
    const headers = { 'X-Request-Id': 'the-request', 'Idempotency-Key': 'k' };
    const body = { name: 'secretive', environment: 'production' };
    const { text } = await gateway.post(path, body, headers);
    const { json } = await gateway.post('/graphql', {
      query: '{ operations { nodes { status error { message } steps { name status } } } }',
    });
    const told = text + JSON.stringify(json);
    for (const word of ['hunter2', 'db.internal', 'SELECT', '42501', 'vault', 'Error:', ' at ']) {
      expect(told).not.toContain(word);
    }
    const logged = gateway
      .logs()
      .split('\n')
      .filter((line) => line.includes('the-request'));
    expect(logged.join('\n')).toContain('db.internal:5432');
  });

  test('the name and the idempotency key are free again', async () => {
    const body = { name: 'second try', environment: 'production' };
    const headers = { 'Idempotency-Key': 'second try' };
    failpoints.fail('verify_connection:before', Infinity, secret);
    expect((await gateway.post(path, body, headers)).status).toBe(500);
    failpoints.clear();
    const answer = await gateway.post(path, body, headers);
    expect(answer).toMatchObject({ status: 201, json: { name: 'second try', status: 'active' } });
  });

  test('what passes by itself is tried again, and the caller hears nothing of it', async () => {
    const passing = Object.assign(new Error('too many clients'), { code: '53300' });
    failpoints.fail('create_role:before', 2, passing);
    const answer = await gateway.post(path, { name: 'patient', environment: 'production' });
    expect(answer).toMatchObject({ status: 201, json: { name: 'patient' } });
  });
});

test('POST /api/v1/tenants: an unexpected error is 500 with nothing but the request id', async () => {
  await world.query('ALTER TABLE control_plane.idempotency_records RENAME TO elsewhere');
  try {
    const headers = { 'X-Request-Id': 'unexpected', 'Idempotency-Key': 'x' };
    const answer = await gateway.post(path, { name: 'x', environment: 'staging' }, headers);
    expect(answer.status).toBe(500);
    expect(answer.json).toEqual({ detail: 'Unexpected error' });
    expect(answer.headers.get('x-request-id')).toBe('unexpected');
  } finally {
    await world.query('ALTER TABLE control_plane.elsewhere RENAME TO idempotency_records');
  }
  const line = gateway
    .logs()
    .split('\n')
    .find(
      (candidate) => candidate.includes('"requestId":"unexpected"') && candidate.includes('err'),
    );
  expect(JSON.parse(line ?? '{}')).toMatchObject({ level: 50, msg: 'request failed' });
  expect(line).toContain('idempotency_records');
});
