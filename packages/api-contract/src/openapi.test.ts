import { must, parseId, uuidv7 } from '@aviary/core';
import { Validator } from '@seriousme/openapi-schema-validator';
import { type TSchema, Type } from 'typebox';
import { Value } from 'typebox/value';
import { expect, test } from 'vitest';
import { SignedIn } from './accounts.ts';
import { component } from './component.ts';
import { buildOpenapi } from './openapi.ts';
import type { Route } from './route.ts';
import { routes } from './routes.ts';
import { SandboxParams } from './sandbox-route.ts';

test.each(['users', 'hosts'] as const)('the document for %s is valid OpenAPI 3.1', async (audience) => {
  const result = await new Validator().validate(structuredClone(buildOpenapi(audience)));
  expect(result).toEqual({ valid: true });
});

const pathsFor = (audience: 'users' | 'hosts') =>
  buildOpenapi(audience)['paths'] as Record<string, Record<string, { operationId: string; responses: object }>>;

test('every route is in one of the documents with its answers', () => {
  const documents = { users: pathsFor('users'), hosts: pathsFor('hosts') };
  for (const [operationId, route] of Object.entries<Route>(routes)) {
    const [own, other] = route.isInternal ? (['hosts', 'users'] as const) : (['users', 'hosts'] as const);
    const method = route.method.toLowerCase();
    const operation = documents[own][route.path]?.[method];
    expect(documents[other][route.path]?.[method]).toBeUndefined();
    expect(operation?.operationId).toBe(operationId);
    for (const status of Object.keys(route.replies)) expect(operation?.responses).toHaveProperty(status);
    const named = [...route.path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]);
    const declared = Object.keys((route.params as { properties?: object } | undefined)?.properties ?? {});
    expect(declared).toEqual(named);
  }
});

test.each(Object.entries<Route>(routes).filter(([, { example }]) => example))(
  'the example of %s fits',
  (_name, route) => {
    const { request, reply } = route.example ?? {};
    if (request !== undefined)
      expect(Value.Check(must(route.body, 'an example request has a body'), request)).toBe(true);
    for (const schema of Object.values(route.replies))
      if (reply !== undefined) expect(Value.Check(schema as TSchema, reply)).toBe(true);
  },
);

test('ids are exactly what is parsed, and components have one name each', () => {
  const { pattern } = SandboxParams.properties.id as unknown as { pattern: string };
  for (const id of [`sb-${uuidv7()}`, 'sb-------------------------------------', `sb-${'0'.repeat(36)}`, 'x', 'sb-'])
    expect([id, new RegExp(pattern).test(id)]).toEqual([id, parses(id)]);
  expect(() => component('Sandbox', Type.Object({}))).toThrow(/two components/);
});

function parses(id: string): boolean {
  try {
    parseId('sandbox', id);
    return true;
  } catch {
    return false;
  }
}

test('a session that anybody can have opened is not opened for pages of other sites', () => {
  const opening = Object.entries<Route>(routes).filter(
    ([, { access, replies }]) => access.by === 'anyone' && Object.values(replies).includes(SignedIn),
  );
  const open = opening.flatMap(([name, { isForOwnPages }]) => (isForOwnPages ? [] : [name]));
  // Its cookie is taken from our own pages alone, and who has the token itself may be anybody.
  expect(open).toEqual(['refreshSession']);
});
