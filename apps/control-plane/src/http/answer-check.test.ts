import { routes } from '@aviary/api-contract';
import { Type } from 'typebox';
import { expect, test } from 'vitest';
import { findAnswerFault, findFault } from './answer-check.ts';

const error = { error: { code: 'not_found', message: 'no', request_id: 'req-1', details: {} } };

test.each([
  ['a status that no reply has', routes.health, { status: 201, body: {} }, /201, which the contract does not name/],
  ['an error that the route cannot answer', routes.health, { status: 409, body: error }, /409, which the contract/],
  ['an error of another shape', routes.getSandbox, { status: 404, body: { message: 'no' } }, /error/],
  ['a body where none belongs', routes.pingSandbox, { status: 204, body: {} }, /none belongs/],
  ['a field that is missing', routes.health, { status: 200, body: { status: 'ok' } }, /version/],
  ['a field too many', routes.health, { status: 200, body: { status: 'ok', version: '1', x: 1 } }, /additional/],
])('tells %s', (_what, route, answer, fault) => {
  expect(findAnswerFault(route, answer)).toMatch(fault);
});

test.each([
  [routes.health, { status: 200, body: { status: 'ok', version: '1' } }],
  [routes.getSandbox, { status: 404, body: error }],
  [routes.pingSandbox, { status: 204, body: '' }],
  [routes.readFile, { status: 200, body: Buffer.from('bytes') }],
])('accepts what the contract allows', (route, answer) => {
  expect(findAnswerFault(route, answer)).toBeUndefined();
});

test('looks into lists and unions, and leaves free records free', () => {
  const schema = Type.Object({
    items: Type.Array(Type.Union([Type.Object({ a: Type.Integer() }), Type.Null()])),
    labels: Type.Record(Type.String(), Type.String()),
  });
  expect(findFault(schema, { items: [{ a: 1 }, null], labels: { any: 'x' } })).toBeUndefined();
  expect(findFault(schema, { items: [{ a: 1, b: 2 }], labels: {} })).toBeDefined();
});
