import { byAnyone, type byMember, type byTeam, type RouteTable } from '@aviary/api-contract';
import { AppError } from '@aviary/core';
import Fastify from 'fastify';
import { Type } from 'typebox';
import { expect, expectTypeOf, test } from 'vitest';
import type { CallerOf } from './callers.ts';
import { type ApiDeps, type Handlers, registerRoutes } from './register-routes.ts';
import { compileValidator } from './validator.ts';

const table = {
  one: {
    tag: 'service',
    access: byAnyone,
    method: 'POST',
    path: '/things/{id}',
    summary: 'Answer one thing',
    params: Type.Object({ id: Type.String() }),
    body: Type.Object({ size: Type.Integer() }),
    replies: { 200: Type.Object({ id: Type.String() }), 202: Type.Object({ soon: Type.Boolean() }) },
    errors: [409],
  },
} as const satisfies RouteTable;

function serve(handlers: Handlers<typeof table>, deps: Partial<ApiDeps> = {}) {
  const app = Fastify();
  app.setValidatorCompiler(({ schema }) => compileValidator(schema as object, 'body'));
  registerRoutes(app, { authenticate: async () => undefined, checksAnswers: true, ...deps }, { table, handlers });
  return async (body: object, type = 'application/json') => {
    const reply = await app.inject({ method: 'POST', url: '/things/x', headers: { 'content-type': type }, body });
    return { status: reply.statusCode, body: reply.json(), headers: reply.headers };
  };
}

test('a handler answers with one of its statuses and the body that belongs to it', async () => {
  const call = serve({
    one: async ({ params, body }) =>
      body.size > 1 ? { status: 202, body: { soon: true } } : { status: 200, body: { id: params.id } },
  });
  expect(await call({ size: 1 })).toMatchObject({ status: 200, body: { id: 'x' } });
  expect(await call({ size: 2 })).toMatchObject({ status: 202, body: { soon: true } });
});

test('an answer or an error that the contract does not allow is a fault of ours', async () => {
  const wrong = serve({ one: async () => ({ status: 200, body: { id: 7 as unknown as string } }) });
  expect((await wrong({ size: 1 })).body.error).toMatchObject({
    code: 'internal',
    message: expect.stringMatching(/\/id must be string/),
  });
  const undocumented = serve({
    one: async () => {
      throw new AppError('forbidden', 'not yours');
    },
  });
  expect((await undocumented({ size: 1 })).body.error).toMatchObject({
    code: 'internal',
    message: expect.stringMatching(/403 forbidden, which its contract does not name/),
  });
  const documented = serve({
    one: async () => {
      throw new AppError('conflict', 'busy');
    },
  });
  expect((await documented({ size: 1 })).status).toBe(409);
});

test('another table can have callers and an error shape of its own', async () => {
  const call = serve(
    { one: async () => ({ status: 200, body: { id: 'x' } }) },
    {
      authenticate: async () => {
        throw new AppError('unauthorized', 'who are you');
      },
      errorBody: ({ message }) => ({ code: 401, message }),
      checksAnswers: false,
    },
  );
  expect(await call({ size: 1 })).toMatchObject({ status: 401, body: { code: 401, message: 'who are you' } });
});

test('a body of another media type is refused by its type, before anybody reads it', async () => {
  const call = serve({ one: async () => ({ status: 200, body: { id: 'x' } }) });
  const reply = await call({ size: 1 }, 'text/plain');
  expect([reply.status, reply.body.error.code]).toEqual([415, 'unsupported_media_type']);
});

test('a route without a handler, and a body of another status, do not compile', () => {
  // @ts-expect-error `one` is missing
  const missing: Handlers<typeof table> = {};
  const crossed: Handlers<typeof table> = {
    // @ts-expect-error 202 has a body of its own
    one: async () => ({ status: 202 as const, body: { id: 'x' } }),
  };
  expect([missing, crossed]).toHaveLength(2);
});

test('no answer is kept on its way, and no refusal either', async () => {
  const call = serve({
    one: async ({ body }) => {
      if (body.size > 1) throw new AppError('conflict', 'busy');
      return { status: 200, body: { id: 'x' } };
    },
  });
  const replies = [await call({ size: 1 }), await call({ size: 2 }), await call({ size: 'none' })];
  expect(replies.map(({ status, headers }) => [status, headers['cache-control']])).toEqual([
    [200, 'no-store'],
    [409, 'no-store'],
    [400, 'no-store'],
  ]);
});

test('of a route that no key may call, its handler gets a person', () => {
  expectTypeOf<CallerOf<ReturnType<typeof byMember>>['via']['type']>().toEqualTypeOf<'user'>();
  expectTypeOf<CallerOf<ReturnType<typeof byTeam>>['via']['type']>().toEqualTypeOf<'user' | 'api_key'>();
});
