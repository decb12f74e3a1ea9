import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { countTenants, path, problem } from './contract-a.ts';

let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
});
afterAll(() => world.close());

const environment = 'production';
const enumeration = "Input should be 'development', 'staging' or 'production'";
const noObject = problem(
  'model_attributes_type',
  [],
  'Input should be a valid dictionary or object to extract fields from',
);
const noJson = problem('json_invalid', [], 'JSON decode error');
const noString = problem('string_type', ['name'], 'Input should be a valid string');
const tooLong = problem('string_too_long', ['name'], 'String should have at most 255 characters');
const tooShort = problem('string_too_short', ['name'], 'String should have at least 1 character');
const unknownEnvironment = problem('enum', ['environment'], enumeration);
const nul = problem('value_error', ['name'], 'name must not contain the NUL character');
const lone = problem(
  'value_error',
  ['name'],
  'name must be well-formed Unicode (lone surrogate found)',
);
const both = {
  detail: [
    ...problem('missing', ['name'], 'Field required').detail,
    ...problem('missing', ['environment'], 'Field required').detail,
  ],
};
const deep = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels);

describe('POST /api/v1/tenants: 422', () => {
  test.for<[what: string, body: unknown, expected: object]>([
    ['without members', {}, both],
    ['without environment', { name: 'x' }, problem('missing', ['environment'], 'Field required')],
    ['without name', { environment }, problem('missing', ['name'], 'Field required')],
    ['name is a number', { name: 1, environment }, noString],
    ['name is null', { name: null, environment }, noString],
    ['name is a list', { name: ['x'], environment }, noString],
    ['name is an object', { name: {}, environment }, noString],
    ['name is true', { name: true, environment }, noString],
    ['name is empty', { name: '', environment }, tooShort],
    ['name has 256 characters', { name: 'x'.repeat(256), environment }, tooLong],
    ['name has 256 emoji', { name: '🐘'.repeat(256), environment }, tooLong],
    ['name has 100,000 characters', { name: 'x'.repeat(100_000), environment }, tooLong],
    ['name has a NUL', { name: 'a\0b', environment }, nul],
    ['name is a NUL', { name: '\0', environment }, nul],
    ['name has a high surrogate alone', { name: 'a\ud83d', environment }, lone],
    ['name has a low surrogate alone', { name: '\udc18b', environment }, lone],
    ['name has surrogates in the wrong order', { name: '\udc18\ud83d', environment }, lone],
    ['environment is unknown', { name: 'x', environment: 'test' }, unknownEnvironment],
    ['environment in capitals', { name: 'x', environment: 'PRODUCTION' }, unknownEnvironment],
    ['environment is empty', { name: 'x', environment: '' }, unknownEnvironment],
    ['environment is null', { name: 'x', environment: null }, unknownEnvironment],
    ['environment is a number', { name: 'x', environment: 1 }, unknownEnvironment],
    ['environment is __proto__', { name: 'x', environment: '__proto__' }, unknownEnvironment],
    [
      'all that is wrong at once',
      { name: 7, environment: [] },
      { detail: [...noString.detail, ...unknownEnvironment.detail] },
    ],
    ['a list', [], noObject],
    ['a list of what it should be', [{ name: 'x', environment }], noObject],
    ['null', 'null', noObject],
    ['a string', '"x"', noObject],
    ['a number', '1', noObject],
    ['true', 'true', noObject],
    ['nothing', '', problem('missing', [], 'Field required')],
    ['a space', ' ', noJson],
    ['an open brace', '{', noJson],
    ['a comma too many', `{"name": "x", "environment": "${environment}",}`, noJson],
    ['text after the end', `{"name": "x", "environment": "${environment}"} x`, noJson],
    ['single quotes', "{'name': 'x'}", noJson],
    ['NaN', '{"name": NaN}', noJson],
    ['a raw control character', '{"name": "a\nb"}', noJson],
    ['bytes that are no UTF-8', Buffer.from('{"name": "\xff"}', 'latin1'), noJson],
    ['a surrogate as UTF-8 bytes', Buffer.from('{"name": "\xed\xa0\x80"}', 'latin1'), noJson],
    ['UTF-16', Buffer.from('\ufeff{"name": "x"}', 'utf16le'), noJson],
    ['members through __proto__', '{"__proto__": {"name": "x", "environment": "staging"}}', both],
    ['100,000 levels as name', `{"name": ${deep(100_000)}, "environment": "staging"}`, noString],
    ['100,000 levels that are a list', deep(100_000), noObject],
    ['100,000 levels that never end', '['.repeat(100_000), noJson],
    ['100,000 levels of objects', `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`, both],
  ])('%s', async ([, body, expected]) => {
    const before = await countTenants(world);
    const answer = await gateway.post(path, body);
    expect(answer.json).toEqual(expected);
    expect(answer.status).toBe(422);
    expect(await countTenants(world)).toBe(before);
  });
});

describe('POST /api/v1/tenants: what it does not take', () => {
  test.for([
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'application/graphql',
    'application/problem+json',
    'application/jsonp',
    'text/json',
    'json',
    ' ',
  ])('Content-Type %j: 415', async (type) => {
    const body = { name: 'by another type', environment };
    const answer = await gateway.post(path, body, { 'Content-Type': type });
    expect(answer.status).toBe(415);
    expect(answer.json).toEqual({ detail: 'Content-Type must be application/json' });
  });
});
